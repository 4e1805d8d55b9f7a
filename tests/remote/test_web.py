"""Folders of a web server: listings of several kinds, links that lead elsewhere, errors told apart."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from db.migrate import migrate
from producer.scan import ScanCounts, resolve_folder, scan
from tests.support.installation import Installation, InstallModel, refused
from tests.support.web_server import WebServer, web_server
from worker.errors import ImageError, StorageError, XraycamError
from worker.images.remote_archive import remote_source
from worker.remote.folder import RemoteFolder

NGINX = """<html><head><title>Index of /in/</title></head><body><hr><pre>
<a href="../">../</a>
<a href="a%20b.png">a b.png</a>   05-Jan-2026 10:00  1234
<a href="%C3%BC%23.PNG">&uuml;#.PNG</a> <a href="deep/">deep/</a>
<a href="notes.txt">notes.txt</a></pre></body></html>"""
APACHE = """<!DOCTYPE HTML><table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td><A HREF='/in/'>Parent Directory</A></td></tr><tr><td><a href="/in/deep/c.png">c.png</a></td></tr>
<tr><td><a href="https://elsewhere.example/in/deep/d.png">d</a><a href="%2e%2e/%2e%2e/secret.png">up</a>
<a href="..%2fsecret.png">up</a><a href="/in/deep/../../secret.png">up</a><a href="c.png#top">again</a>
<a href="mailto:a@b">mail</a><a>none</a></td></tr></table>"""


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as server:
        server.pages |= {"/in/": NGINX, "/in/deep/": APACHE}
        names = ("/in/a%20b.png", "/in/%C3%BC%23.PNG", "/in/deep/c.png", "/in/notes.txt", "/secret.png")
        server.files |= {name: name.encode() for name in names}
        yield server


def found(url: str) -> tuple[dict[str, int], dict[str, int]]:
    """Identities by path, and what was left out."""
    counts = ScanCounts()
    folder = resolve_folder(RemoteFolder(url))
    return {file.path: file.modified_ns for file in scan(folder, counts)}, dict(counts.skipped)


def test_what_a_listing_links_below_it_is_found_and_read(server: WebServer) -> None:
    listed, left_out = found(f"{server.url}/in/")
    assert sorted(listed) == ["%C3%BC%23.PNG", "a%20b.png", "deep/c.png"]
    assert left_out == {"sidecars": 1, "unsafe_keys": 1}
    place = RemoteFolder(f"{server.url}/in")
    for path in listed:
        assert place.file(path, 100).read(1000) == f"/in/{path}".encode()
    server.files["/in/deep/c.png"] = b"/in/deep/C.png"
    again, _ = found(f"{server.url}/in")
    assert {path for path in listed if listed[path] != again[path]} == {"deep/c.png"}
    assert list(found(f"{server.url}/in/a b.png")[0]) == ["a%20b.png"]
    with pytest.raises(ImageError, match="the limit"):
        place.file("a%20b.png").read(5)


def test_what_is_no_listing_is_told(server: WebServer) -> None:
    server.pages |= {"/empty/": "<html><script>draw()</script></html>", "/gone/": NGINX, "/denied/": NGINX}
    server.files["/table/"] = b"{}"
    server.failing |= {"/denied/": [403], "/moved/": [301], "/odd/": [418]}
    for place, says in {
        "not-there": "cannot be listed: there is nothing at that place (404)",
        "denied": "cannot be listed: access is denied (403)",
        "moved": "it leads elsewhere (301), to https://elsewhere.example/login",
        "odd": "418",
        "table": "is no listing of files, but application/octet-stream",
        "empty": "its page links nothing below it",
    }.items():
        with pytest.raises(XraycamError) as refused:
            found(f"{server.url}/{place}")
        assert says in str(refused.value)
        assert "\n" not in str(refused.value)
    server.gives_marks = False
    with pytest.raises(XraycamError, match="neither ETag nor Last-Modified"):
        found(f"{server.url}/in")
    for query in ("?x", "?token=hidden", "#part"):
        with pytest.raises(XraycamError) as refused:
            RemoteFolder(f"{server.url}/in{query}")
        assert "hidden" not in str(refused.value)


def test_faults_of_one_file_are_its_own_and_those_of_the_server_are_waited_for(server: WebServer) -> None:
    server.failing |= {"/in/a%20b.png": [403], "/in/deep/c.png": [503, 503, 200]}
    listed, _ = found(f"{server.url}/in")
    assert len(listed) == 3
    place = RemoteFolder(f"{server.url}/in", deadline=3.0)
    with pytest.raises(ImageError) as refused:
        place.file("a%20b.png", 0).read(1000)
    assert refused.value.reason == "unreadable"
    server.failing["/in/deep/c.png"] = [503, 429, 200]
    assert place.file("deep/c.png", 14).read(1000) == b"/in/deep/c.png"
    server.failing["/in/deep/c.png"] = [503]
    with pytest.raises(StorageError):
        place.file("deep/c.png", 14).read(1000)
    with pytest.raises(ImageError, match="cannot be read"):
        place.file("%2e%2e/secret.png", 11).read(1000)


@pytest.mark.parametrize("status", [302, 401, 403, 405, 410, 418, 451, 501])
def test_a_file_that_cannot_be_looked_at_fails_alone_and_is_never_read_without_its_mark(
    server: WebServer, status: int
) -> None:
    server.heads["/in/a%20b.png"] = status
    listed, _ = found(f"{server.url}/in")
    assert listed["a%20b.png"] == 0  # no identity
    place = RemoteFolder(f"{server.url}/in", deadline=3.0)
    for begins in (False, True):
        file = place.file("a%20b.png", 0)
        if begins:
            file.begin_read(1000)
        with pytest.raises(ImageError) as refused:
            file.read(1000)
        assert refused.value.reason in ("unreadable", "missing")
    assert place.file("deep/c.png", 14).read(1000) == b"/in/deep/c.png"


def test_archives_are_read_by_ranges_where_the_server_gives_them(server: WebServer) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/one.png", b"one" * 500_000)
        archive.writestr("two.png", b"two")
    server.files["/in/box.zip"] = buffer.getvalue()
    server.pages["/in/"] = "<a href=box.zip>box.zip</a>"
    assert sorted(found(f"{server.url}/in")[0]) == ["box.zip!/a/one.png", "box.zip!/two.png"]
    place = RemoteFolder(f"{server.url}/in")
    assert remote_source(place, "box.zip!/two.png").read(10**7) == b"two"
    server.files["/in/box.zip"] = buffer.getvalue()[::-1]
    with pytest.raises(ImageError, match="was changed while it was read"):
        remote_source(place, "box.zip!/a/one.png").read(10**7)
    server.gives_ranges = False
    assert list(found(f"{server.url}/in")[0]) == ["box.zip"]
    with pytest.raises(ImageError, match="gives no parts of a file"):
        remote_source(RemoteFolder(f"{server.url}/in"), "box.zip").read(10**7)


@pytest.mark.slow
def test_a_listing_is_explained_to_a_folder(
    server: WebServer, tmp_path: Path, model_store: InstallModel
) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(buffer, "PNG")
    server.files |= {path: buffer.getvalue() for path in server.files}
    made = Installation(tmp_path, chunk_size=2)
    made.without_tensorflow()
    migrate(made.ledger)
    model_store(made.ledger, made.home)
    try:
        done = made.xraycam("run", f"{server.url}/in", "--output", tmp_path / "local")
        assert "3 images, 3 new" in done.stderr
        written = {
            str(file.relative_to(tmp_path / "local")) for file in tmp_path.glob("local/run-*/**/*.jpg")
        }
        assert written == {f"run-000001/{name}.jpg" for name in ("a%20b.png", "%C3%BC%23.PNG", "deep/c.png")}
        assert (
            "3 done already" in made.xraycam("run", f"{server.url}/in", "--output", tmp_path / "local").stderr
        )
        said = refused(made, "run", f"{server.url}/in", "--output", f"{server.url}/out")
        assert "a web server is only read" in said
    finally:
        made.stop_all()
