"""Members of zip and tar archives are read in place, and no archive can do harm."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.errors import ImageError
from worker.file_names import printable
from worker.images import archive, gzip_stream
from worker.images.archive import (
    Member,
    archive_kind,
    list_members,
    member_head,
    member_path,
    read_member,
    split_member_path,
)
from worker.images.limits import Limits

FILES = {
    "a.dcm": b"first" * 200,
    "b/c/IM000001": os.urandom(3000),
    "b/ümlaut 胸.png": b"x",
    "empty.dcm": b"",
}


def make_zip(file: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as made:
        made.mkdir("b")
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name, (2024, 2, 3, 4, 5, 6)), content, method)
    return file


def make_tar(file: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as made:
        made.addfile(directory("b"))
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1706933106
            made.addfile(info, io.BytesIO(content))
    return file


def directory(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


@contextmanager
def opened(file: Path) -> Any:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def members(file: Path) -> list[Member]:
    with opened(file) as descriptor:
        return list(list_members(descriptor, file.name))


def read_whole(file: Path, name: str, limits: Limits | None = None) -> bytes:
    with opened(file) as descriptor:
        return read_member(descriptor, name, printable(member_path(file.name, name)), limits or Limits())


def refused(read: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read()
    assert str(caught.value).isprintable()
    return caught.value


@pytest.fixture(params=["stored", "deflated", "tar", "tgz"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "tar":
        return make_tar(tmp_path / "a.tar", FILES)
    if request.param == "tgz":
        return make_tar(tmp_path / "a.tgz", FILES, "w:gz")
    is_stored = request.param == "stored"
    return make_zip(tmp_path / "a.zip", FILES, zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED)


def test_members_are_listed_with_size_and_time(made: Path) -> None:
    found = {member.name: member for member in members(made)}
    assert {name: member.size for name, member in found.items()} == {
        name: len(expected) for name, expected in FILES.items()
    }
    assert {member.mtime_ns for member in found.values()} == {1706933106 * 10**9}
    assert not any(member.refusal for member in found.values())
    assert len({member.offset for member in found.values()}) == len(FILES)


def test_members_are_read_in_any_order(made: Path) -> None:
    for name in (*reversed(FILES), *FILES):
        assert read_whole(made, name) == FILES[name]


def test_beginning_of_a_member_is_read_alone(made: Path) -> None:
    with opened(made) as descriptor:
        for member in list_members(descriptor, "a"):
            assert member_head(descriptor, member, "a", 10) == FILES[member.name][:10]


def test_members_are_read_by_several_threads(made: Path) -> None:
    wrong: list[str] = []

    def read() -> None:
        for name in FILES:
            if read_whole(made, name) != FILES[name]:
                wrong.append(name)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_member_that_is_not_there_is_missing(made: Path) -> None:
    assert refused(lambda: read_whole(made, "z.dcm")).reason == "missing"


def test_member_above_the_limit_is_not_read(made: Path) -> None:
    assert refused(lambda: read_whole(made, "a.dcm", Limits(max_bytes=999))).reason == "too-large"
    assert read_whole(made, "a.dcm", Limits(max_bytes=1000))


def test_archive_that_changed_is_listed_anew(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"a": b"1"})
    assert read_whole(file, "a") == b"1"
    make_zip(file, {"a": b"22", "b": b"3"})
    assert read_whole(file, "a") == b"22"
    assert [member.name for member in members(file)] == ["a", "b"]


def test_last_of_several_members_of_one_name_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar, zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for text in (b"old", b"newer"):
            info = tarfile.TarInfo("a")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
            with pytest.warns(UserWarning, match="Duplicate") if text == b"newer" else nothing():
                zipped.writestr("a", text)
    for name in ("a.tar", "a.zip"):
        assert [(member.size, member.refusal) for member in members(tmp_path / name)] == [
            (5, None),
            (0, "repeated"),
        ]
        assert read_whole(tmp_path / name, "a") == b"newer"


@contextmanager
def nothing() -> Any:
    yield


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    files = {".DS_Store": b"1", "__MACOSX/._a.dcm": b"2", "a.dcm": b"3", "./b.dcm": b"4"}
    for file in (make_zip(tmp_path / "a.zip", files), make_tar(tmp_path / "a.tar", files)):
        assert [member.name for member in members(file)] == ["a.dcm", "b.dcm"]
        assert read_whole(file, "b.dcm") == b"4"


def test_separators_of_windows_are_read(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"a\\b.dcm": b"1"})
    assert read_whole(file, "a/b.dcm") == b"1"


UNSAFE = ["../a.dcm", "/etc/passwd", "b/../../a.dcm", "b//a.dcm", "C:/a.dcm", "b\n.dcm", "n" * 1600, "b/./c"]


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    for file in (make_zip(tmp_path / "a.zip", {name: b"1"}), make_tar(tmp_path / "a.tar", {name: b"1"})):
        assert [member.refusal for member in members(file)] == ["unsafe-name"]
        assert refused(lambda file=file: read_whole(file, members(file)[0].name)).reason == "unsupported"


def test_archives_within_are_not_opened(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"a.dcm": b"1"}).read_bytes()
    file = make_zip(tmp_path / "a.zip", {"b/inner.zip": inner, "x.tar.gz": b"1"})
    assert {member.refusal for member in members(file)} == {"nested-archive"}
    assert "unpack the outer one" in str(refused(lambda: read_whole(file, "b/inner.zip")))
    assert refused(lambda: read_whole(file, "b/inner.zip!/a.dcm")).reason == "missing"


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for name, kind in (("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("d", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            made.addfile(info)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        link = zipfile.ZipInfo("s")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    for name in ("a.tar", "a.zip"):
        assert {member.refusal for member in members(tmp_path / name)} == {"not-a-file"}
        assert refused(lambda file=tmp_path / name: read_whole(file, "s")).reason == "unsupported"


def test_encrypted_members_are_told(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"a.dcm": b"1"})
    changed = bytearray(file.read_bytes())
    changed[changed.rindex(b"PK\1\2") + 8] |= 1
    file.write_bytes(changed)
    assert [member.refusal for member in members(file)] == ["encrypted"]
    assert "encrypted" in str(refused(lambda: read_whole(file, "a.dcm")))


def test_member_that_inflates_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {"a.dcm": bytes(50_000_000)})
    assert file.stat().st_size < 60_000
    assert refused(lambda: read_whole(file, "a.dcm", Limits(max_bytes=1_000_000))).reason == "too-large"
    changed = file.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 100))
    file.write_bytes(changed)
    os.utime(file, ns=(0, 0))
    assert refused(lambda: read_whole(file, "a.dcm", Limits(max_bytes=1_000_000))).reason == "truncated"


def test_archive_compressed_by_other_than_gzip_is_refused(tmp_path: Path) -> None:
    for mode in ("bz2", "xz"):
        file = tmp_path / f"a.tar.{mode}"
        with tarfile.open(file, f"w:{mode}") as made:
            made.addfile(tarfile.TarInfo("a"))
        error = refused(lambda file=file: members(file))
        assert error.reason == "unsupported"
        assert "unpack it, or use zip" in str(error)


def test_archive_that_inflates_without_bounds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_tar(tmp_path / "a.tar.gz", {"a": bytes(30_000_000)}, "w:gz")
    assert file.stat().st_size < 60_000
    monkeypatch.setattr(gzip_stream, "MAX_INFLATED", 20_000_000)
    assert refused(lambda: members(file)).reason == "too-large"


def test_gzip_is_read_from_any_place_and_keeps_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzip_stream, "_FIRST_DISTANCE", 10_000)
    monkeypatch.setattr(gzip_stream, "_PLACES", 8)
    monkeypatch.setattr(gzip_stream, "_PIECE", 4_000)
    random = np.random.default_rng(3)
    content = random.bytes(300_000) + bytes(200_000) + random.bytes(70_000)
    file = tmp_path / "a.gz"
    file.write_bytes(
        gzip.compress(content[:350_001]) + bytes(9) + gzip.compress(content[350_001:]) + bytes(9)
    )
    stream = gzip_stream.GzipStream(os.open(file, os.O_RDONLY), "a")
    assert stream.seek(0, os.SEEK_END) == len(content)
    for start, size in random.integers(0, len(content), (100, 2)):
        stream.seek(int(start))
        assert stream.read(int(size)) == content[start : start + size]
    assert len(stream._places) <= 8
    stream.close()


def test_methods_whose_output_has_no_bounds_are_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = make_zip(tmp_path / f"{method}.zip", {"a.dcm": bytes(9000)}, method)
        assert [member.refusal for member in members(file)] == ["compression"]
        assert refused(lambda file=file: read_whole(file, "a.dcm")).reason == "unsupported"


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict.fromkeys(map(str, range(30)), b"")
    made = [make_zip(tmp_path / "a.zip", files), make_tar(tmp_path / "a.tar", files)]
    monkeypatch.setattr(archive, "MAX_MEMBERS", 20)
    for file in made:
        assert refused(lambda file=file: members(file)).reason == "too-large"


def test_directory_that_lies_about_its_entries_is_refused(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a.zip", {f"{number}": b"" for number in range(100)})
    content = bytearray(file.read_bytes())
    content[-14:-10] = struct.pack("<HH", 1, 1)
    content[-10:-6] = struct.pack("<I", 2**31)
    file.write_bytes(content)
    assert refused(lambda: members(file)).reason == "too-large"


def test_header_of_a_tar_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    file = tmp_path / "a.tar"
    file.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert refused(lambda: members(file)).reason == "not-an-image"


def test_archive_cut_anywhere_is_refused_or_whole(made: Path) -> None:
    whole = made.read_bytes()
    last = len(whole.rstrip(b"\0")) if made.suffix == ".tar" else len(whole) - 22

    for end in range(600, last, 97):
        made.write_bytes(whole[:end])
        os.utime(made, ns=(0, end))
        assert refused(lambda: members(made)).reason == "not-an-image"


def test_damaged_header_within_a_tar_is_not_passed_over(tmp_path: Path) -> None:
    file = make_tar(tmp_path / "a.tar", dict.fromkeys("abc", b"1" * 600))
    content = bytearray(file.read_bytes())
    content[content.index(b"b" + bytes(90)) + 150] ^= 0xFF  # of its checksum
    file.write_bytes(content)
    assert refused(lambda: members(file)).reason == "not-an-image"


def test_mutated_archives_give_content_or_a_reason(made: Path) -> None:
    whole = made.read_bytes()
    random = np.random.default_rng(1)
    for number in range(150):
        content = bytearray(whole)
        for _ in range(3):
            content[int(random.integers(len(content)))] = int(random.integers(256))
        made.write_bytes(content)
        os.utime(made, ns=(0, number))
        with suppress(ImageError):
            for member in members(made):
                with suppress(ImageError):
                    assert len(read_whole(made, member.name)) == member.size


def test_kinds_are_known_by_read_whole(made: Path) -> None:
    kind = "compressed" if made.suffix == ".tgz" else made.suffix[1:]
    assert archive_kind(made.read_bytes()[:512]) == kind
    assert archive_kind(b"\x89PNG" + bytes(600)) is None
    assert archive_kind(b"") is None


def test_path_of_a_member_is_split_where_the_archive_is(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"b/c.dcm": b"1"})
    (tmp_path / "d!").mkdir()
    (tmp_path / "d!" / "e.dcm").write_bytes(b"2")
    make_zip(tmp_path / "d!" / "f.zip", {"g": b"1"})
    assert split_member_path("a.zip!/b/c.dcm", tmp_path) == ("a.zip", "b/c.dcm")
    assert split_member_path("d!/e.dcm", tmp_path) is None
    assert split_member_path("d!/f.zip!/g", tmp_path) == ("d!/f.zip", "g")
    assert split_member_path("a.zip", tmp_path) is None
    assert split_member_path("no.zip!/a", tmp_path) is None
