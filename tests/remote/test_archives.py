"""Archives in object storage: listed and read by ranges, equal to what they hold."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Callable

import pytest

from producer.gone_files import _gone_objects
from producer.scan import Folder, ScanCounts, scan
from tests.support.object_store import BUCKET, ObjectStore
from worker.errors import ImageError, StorageError
from worker.images.remote_archive import remote_source
from worker.remote.folder import RemoteFolder

NAMES = [f"study-{number // 4}/image {number:02}.png" for number in range(12)]


def contents() -> dict[str, bytes]:
    noise = random.Random(5)
    return {name: noise.randbytes(300_000 + 1000 * number) for number, name in enumerate(NAMES)}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def folder() -> RemoteFolder:
    return RemoteFolder(f"s3://{BUCKET}/in")


@pytest.mark.parametrize(("ending", "make"), [("zip", zipped), ("tar", tarred)])
def test_members_are_listed_and_read_by_ranges(
    object_store: ObjectStore, ending: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    held = contents()
    object_store.put(f"in/box.{ending}", make(held))
    object_store.put("in/plain.png", b"plain")
    counts = ScanCounts()
    found = [file.path for file in scan(Folder(folder()), counts)]
    assert sorted(found) == sorted(["plain.png", *(f"box.{ending}!/{name}" for name in NAMES)])
    object_store.requests.clear()
    place = folder()
    for name, content in held.items():
        source = remote_source(place, f"box.{ending}!/{name}", len(content))
        assert str(source) == f"s3://{BUCKET}/in/box.{ending}!/{name}"
        assert source.read(10**7) == content
    # A megabyte ahead at a time: a few requests for all twelve, and not one for each read of a header.
    assert object_store.requests.total() < 12


def test_an_object_called_as_a_member_comes_first(object_store: ObjectStore) -> None:
    object_store.put("in/box.zip", zipped({"a.png": b"member", "b.png": b"other"}))
    object_store.put("in/box.zip!/a.png", b"object")
    counts = ScanCounts()
    assert sorted(file.path for file in scan(Folder(folder()), counts)) == [
        "box.zip!/a.png",
        "box.zip!/b.png",
    ]
    assert counts.skipped == {"repeated_members": 1}
    assert remote_source(folder(), "box.zip!/a.png").read(100) == b"object"
    assert remote_source(folder(), "box.zip!/b.png").read(100) == b"other"
    object_store.put("in/no.zip!/c.png", b"no archive at all")
    assert remote_source(folder(), "no.zip!/c.png").read(100) == b"no archive at all"


def test_archives_that_cannot_be_read_end_with_their_reason(object_store: ObjectStore) -> None:
    object_store.put("in/damaged.zip", zipped({"a.png": b"x" * 1000})[:-30])
    object_store.put("in/whole.tar.gz", tarred({"a.png": b"x"}, "w:gz"))
    found = [file.path for file in scan(Folder(folder()), ScanCounts())]
    assert sorted(found) == ["damaged.zip", "whole.tar.gz"]
    for path, reason in (("damaged.zip", "not-an-image"), ("whole.tar.gz", "unsupported")):
        with pytest.raises(ImageError) as refused:
            remote_source(folder(), path).read(10**6)
        assert refused.value.reason == reason
    with pytest.raises(ImageError) as refused:
        remote_source(folder(), "damaged.zip!/a.png").read(10**6)
    assert refused.value.reason == "not-an-image"


def test_an_archive_that_changes_while_it_is_read_is_told(object_store: ObjectStore) -> None:
    held = contents()
    object_store.put("in/box.tar", tarred(held))
    place = folder()
    remote_source(place, f"box.tar!/{NAMES[0]}").read(10**7)
    object_store.put("in/box.tar", tarred({name: content[::-1] for name, content in held.items()}))
    with pytest.raises(ImageError, match="was changed while it was read"):
        remote_source(place, f"box.tar!/{NAMES[-1]}").read(10**7)
    assert remote_source(folder(), f"box.tar!/{NAMES[0]}").read(10**7) == held[NAMES[0]][::-1]


def test_an_archive_of_a_storage_that_is_away_is_waited_for(object_store: ObjectStore) -> None:
    object_store.put("in/box.zip", zipped({"a.png": b"member"}))
    object_store.fail(503)
    with pytest.raises(StorageError):
        remote_source(RemoteFolder(f"s3://{BUCKET}/in", 1.5), "box.zip!/a.png").read(100)
    object_store.heal()
    object_store.cut("box.zip", times=2, method="GET")
    assert remote_source(folder(), "box.zip!/a.png").read(100) == b"member"


def test_members_are_gone_only_where_their_archive_can_be_listed(object_store: ObjectStore) -> None:
    object_store.put("in/box.zip", zipped({"a.png": b"member", "b.png": b"other"}))
    object_store.put("in/x.png", b"object")
    known = ["box.zip!/a.png", "box.zip!/c.png", "x.png", "y.png", "none.zip!/a.png"]
    assert sorted(_gone_objects(folder(), known)) == ["box.zip!/c.png", "none.zip!/a.png", "y.png"]
    object_store.fail(403, "box.zip")
    assert sorted(_gone_objects(folder(), known)) == ["none.zip!/a.png", "y.png"]
