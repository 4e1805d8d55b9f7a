"""Folders of an object store: keys of any kind, errors told from each other, faults waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.scan import ScanCounts, resolve_folder, scan
from tests.support.object_store import BUCKET, ObjectStore
from worker.errors import ImageError, StorageError, XraycamError
from worker.remote import read_ahead
from worker.remote.calls import as_image_error
from worker.remote.folder import RemoteFolder, RemotePath, place_of
from worker.remote.urls import is_safe_key, refuse_url, without_secrets

ODD_KEYS = [
    "a b.png", "ü/å 胸.png", "x%2Fy.png", "pl+us&a=b#h;'\"<>.png", "!exclamation!/~.png", "star*[x].png",
]  # fmt: skip
UNSAFE_KEYS = ["../up.png", "in//twice.png", "./dot.png", "/lead.png", "q?versionId=3.png", "end/"]


def folder(prefix: str = "in", deadline: float = 15.0) -> RemoteFolder:
    return RemoteFolder(f"s3://{BUCKET}/{prefix}", deadline)


def test_keys_of_any_kind_are_listed_read_and_written(object_store: ObjectStore) -> None:
    for key in ODD_KEYS:
        object_store.put(f"in/{key}", key.encode())
    listed = {found.path: found for found in folder().list()}
    assert sorted(listed) == sorted(ODD_KEYS)
    for key in ODD_KEYS:
        assert folder().file(key, listed[key].size).read(1000) == key.encode()
        folder("out").file(f"{key}.jpg").write(b"overlay")
    assert sorted(object_store.listed("out/")) == sorted(f"out/{key}.jpg" for key in ODD_KEYS)


@pytest.mark.parametrize("key", UNSAFE_KEYS)
def test_keys_that_are_no_path_are_neither_read_nor_written(object_store: ObjectStore, key: str) -> None:
    assert not is_safe_key(key)
    object_store.put(f"in/{key}", b"secret")
    before = object_store.listed()
    with pytest.raises(ImageError) as refused:
        folder().file(key).read(1000)
    assert refused.value.reason == "outside-root"
    with pytest.raises(ImageError) as refused:
        folder().file(key).write(b"x")
    assert refused.value.reason == "write-failed"
    assert object_store.listed() == before


def test_etag_is_the_identity(object_store: ObjectStore) -> None:
    object_store.put("in/a.png", b"one")
    (first,) = folder().list()
    object_store.put("in/a.png", b"one")
    assert [first] == list(folder().list())
    object_store.put("in/a.png", b"two")
    (changed,) = folder().list()
    assert changed.identity != first.identity
    assert changed == folder().look_at("a.png")


def test_a_listing_of_several_pages_is_whole(object_store: ObjectStore) -> None:
    keys = [f"{number:04}.png" for number in range(1203)]
    for key in keys:
        object_store.put(f"in/{key}", b"x")
    object_store.put("in2/other.png", b"x")
    object_store.requests.clear()
    assert [found.path for found in folder().list()] == keys
    assert object_store.requests.total() == 2


@pytest.mark.parametrize("status", [500, 503])
def test_a_busy_storage_is_tried_again(object_store: ObjectStore, status: int) -> None:
    object_store.put("in/a.png", b"content")
    object_store.fail(status, "a.png", times=3)
    assert folder().file("a.png").read(100) == b"content"
    object_store.fail(status, "b.png", times=3)
    folder().file("b.png").write(b"overlay")
    assert object_store.get("in/b.png") == b"overlay"


def test_a_cut_connection_is_tried_again(object_store: ObjectStore) -> None:
    object_store.put("in/a.png", b"content")
    object_store.cut("a.png", times=2)
    assert folder().file("a.png").read(100) == b"content"


@pytest.mark.parametrize("fault", ["busy", "stopped", "silent"])
def test_a_storage_that_is_away_blames_no_image(object_store: ObjectStore, fault: str) -> None:
    object_store.put("in/a.png", b"content")
    if fault == "busy":
        object_store.fail(503)
    elif fault == "stopped":
        object_store.stop()
    else:
        object_store.delay = 4.0
    for attempt in (
        lambda: folder(deadline=1.5).file("a.png").read(100),
        lambda: folder(deadline=1.5).file("b.png").write(b"x"),
    ):
        with pytest.raises(StorageError, match=r"s3://archive/in cannot be (read|written to): it "):
            attempt()
    if fault == "stopped":
        object_store.start()
    object_store.heal()
    object_store.delay = 0.0
    assert folder().file("a.png").read(100) == b"content"


def test_what_is_wrong_with_one_object_is_told_of_it(object_store: ObjectStore) -> None:
    object_store.put("in/a.png", b"content")
    object_store.put("in/empty.png", b"")
    object_store.fail(403, "a.png")
    with pytest.raises(ImageError, match=r"may not be read with these credentials \(403\)") as denied:
        folder().file("a.png").read(100)
    assert denied.value.reason == "unreadable"
    with pytest.raises(ImageError, match=r"access is denied \(403\)") as denied:
        folder().file("a.png").write(b"x")
    assert denied.value.reason == "write-failed"
    object_store.heal()
    with pytest.raises(ImageError) as missing:
        folder().file("gone.png").read(100)
    assert missing.value.reason == "missing"
    with pytest.raises(ImageError) as large:
        folder().file("a.png").read(6)
    assert large.value.reason == "too-large"
    assert folder().file("empty.png", 0).read(100) == b""


def test_an_emptied_prefix_and_a_bucket_that_is_gone_are_of_the_storage(object_store: ObjectStore) -> None:
    with pytest.raises(StorageError):
        folder("nothing-here").file("a.png").read(100)
    with pytest.raises(StorageError, match="no such bucket"):
        RemoteFolder("s3://not-there/x").file("a.png").read(100)
    with pytest.raises(StorageError, match="no such bucket"):
        RemoteFolder("s3://not-there/x").file("a.png").write(b"x")
    with pytest.raises(XraycamError, match="s3://not-there/x cannot be listed: there is no such bucket"):
        list(RemoteFolder("s3://not-there/x").list())
    object_store.fail(403)
    with pytest.raises(XraycamError, match=r"s3://archive/in cannot be listed: access is denied"):
        list(folder().list())


def test_a_claim_is_granted_once(object_store: ObjectStore) -> None:
    folder("run-1").claim("mark", b"ours")
    with pytest.raises(FileExistsError):
        folder("run-1").claim("mark", b"theirs")
    assert object_store.get("run-1/mark") == b"ours"


def test_a_prefix_is_no_beginning_of_a_name(object_store: ObjectStore) -> None:
    assert folder("a/b").inside(folder("a")) == "b"
    assert folder("ab").inside(folder("a")) is None
    with pytest.raises(ImageError):
        folder("a").named(f"s3://{BUCKET}/ab/c.jpg")
    assert folder("a").named(f"s3://{BUCKET}/a/b/c.jpg").path == "b/c.jpg"


def test_overlays_of_any_run_are_left_out_and_their_prefix_refused(object_store: ObjectStore) -> None:
    for name in ("a.png", "old/run-000001/a.png.jpg", "old/run-000001/ward/b.png.jpg", "run-000002/c.png"):
        object_store.put(f"in/{name}", b"x")
    object_store.put("in/old/run-000001/xraycam-run.json", b"{}")
    counts = ScanCounts()
    found = scan(resolve_folder(RemoteFolder(f"s3://{BUCKET}/in")), counts)
    assert [file.path for file in found] == ["a.png", "run-000002/c.png"]
    assert counts.skipped == {"ours": 2, "sidecars": 1}
    assert resolve_folder(RemoteFolder(f"s3://{BUCKET}/in/run-000002"))
    for place in ("in/old/run-000001", "in/old/run-000001/ward", "in/old/run-000001/a.png.jpg"):
        with pytest.raises(XraycamError, match="holds overlays of xraycam"):
            resolve_folder(RemoteFolder(f"s3://{BUCKET}/{place}"))


def test_other_file_systems_are_listed_folder_by_folder() -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    for name in ("/box/x/a.png", "/box/x/deep/b.png", "/box/xy.png"):
        files.pipe_file(name, b"content")
    place = RemoteFolder("memory://box/x")
    assert sorted(found.path for found in place.list()) == ["a.png", "deep/b.png"]
    assert place.file("deep/b.png").read(100) == b"content"
    place.file("c.jpg").write(b"overlay")
    assert files.cat_file("/box/x/c.jpg") == b"overlay"
    assert list(RemoteFolder("memory://box/none").list()) == [], "as in S3, so that it can be an output"
    with pytest.raises(XraycamError, match="cannot be listed"):
        next(RemoteFolder("memory://no-box/none").list())
    assert place.delete(["c.jpg", "not-there"]) == 2
    assert list(place.missing(["a.png", "c.jpg"])) == ["c.jpg"]


class _Task:
    def __init__(self, source: RemotePath) -> None:
        self.source = source


def test_what_is_read_ahead_is_bounded_in_bytes_and_in_number(object_store: ObjectStore) -> None:
    for number in range(20):
        object_store.put(f"in/{number:02}", bytes([number]) * 1000)
    tasks = [_Task(folder().file(f"{number:02}", 1000)) for number in range(20)]

    def begun() -> int:
        return sum(task.source.is_begun for task in tasks)

    ahead = read_ahead.read_ahead(iter(tasks), 10_000, limit_bytes=5_500)
    for number, task in enumerate(ahead):
        assert begun() <= 5
        assert begun() == min(5, 20 - number)
        assert task.source.read(10_000) == bytes([number]) * 1000
    ahead = read_ahead.read_ahead(iter(tasks), 10_000, limit_files=3)
    next(ahead)
    assert begun() == 3
    ahead.close()
    assert begun() == 0


def test_one_too_large_for_the_bound_is_read_when_it_is_needed(object_store: ObjectStore) -> None:
    object_store.put("in/large", b"x" * 9000)
    (task,) = read_ahead.read_ahead([_Task(folder().file("large", 9000))], 10_000, limit_bytes=5_000)
    assert not task.source.is_begun
    assert task.source.read(10_000) == b"x" * 9000


def test_an_object_that_has_grown_since_it_was_listed_is_read_whole(object_store: ObjectStore) -> None:
    object_store.put("in/a", b"x" * 9000)
    stale = folder().file("a", 10)
    stale.begin_read(10_000)
    assert stale.read(10_000) == b"x" * 9000


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAPLANTED:secret@bucket/x",
        "s3://bucket/x?sig=secret",
        "az://box/x?se=2030&sig=secret",
        "https://user:secret@host/x",
        "https://host/x?X-Amz-Signature=secret",
        "ftp://user:secret@host/x",
        "file://host/x",
        "s3://",
        "s3:///x",
        "s3://bucket//x",
        "s3://bucket/../x",
    ],
)
def test_urls_that_are_not_taken_are_refused_in_a_line_without_their_secrets(url: str) -> None:
    with pytest.raises(XraycamError) as refused:
        place_of(url)
    assert "secret" not in str(refused.value)
    assert "PLANTED" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a%20b").mkdir()
    assert place_of(f"file://{tmp_path}/a%20b") == tmp_path / "a%20b"
    assert place_of(f"file://{tmp_path}/c%20d") == tmp_path / "c d"
    assert place_of("s3:/bucket") == Path("s3:/bucket")


@pytest.mark.parametrize("given", ["s3://bucket/x", Path("s3://bucket/x"), Path("https://host/x?sig=secret")])
def test_where_a_folder_is_needed_a_url_is_refused(given: Path | str) -> None:
    with pytest.raises(XraycamError, match="is a URL, which is not taken here; name a folder") as refused:
        refuse_url(given)
    assert "secret" not in str(refused.value)


def test_no_url_in_a_text_keeps_its_secrets() -> None:
    said = without_secrets('Could not connect to "http://me:pw@host:9000/b/k?X-Amz-Signature=pw": refused')
    assert said == 'Could not connect to "http://host:9000/b/k": refused'


def test_an_object_in_an_archive_tier_says_so(object_store: ObjectStore) -> None:
    object_store.client.put_object(Bucket=BUCKET, Key="in/a.png", Body=b"x", StorageClass="GLACIER")
    (listed,) = folder().list()
    with pytest.raises(ImageError, match="is in an archive tier of the storage; restore it") as refused:
        folder().file("a.png", listed.size).read(1000)
    assert refused.value.reason == "unreadable"


class _HttpError(Exception):
    """As Azure's, whose text has several lines."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{code}\nRequestId: 1")
        self.status_code, self.error_code = status, code


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (_HttpError(416, "InvalidRange"), ImageError, "cannot be read: _HttpError: InvalidRange"),
        (_HttpError(409, "BlobArchived"), ImageError, "archive tier"),
        (_HttpError(403, "AuthenticationFailed"), StorageError, "AuthenticationFailed; the run continues"),
        (_HttpError(503, "ServerBusy"), StorageError, "ServerBusy; the run continues"),
    ],
)
def test_errors_of_other_libraries_are_of_one_object_or_of_all(
    error: Exception, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind) as raised:
        as_image_error(error, "az://box/a.png", "az://box", doing="read", answers=lambda: True)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "RequestId" not in str(raised.value)
