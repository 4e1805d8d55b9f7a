"""Nothing is read outside a run's root, nor written outside its output, whatever links say."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from worker.errors import ImageError
from worker.file_names import escape_path, unescape_path
from worker.images.limits import Limits
from worker.images.reader import read_radiograph
from worker.safe_files import _unfinished, atomic_write_beneath, remove_temp_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    for folder in ("root/in", "private"):
        Image.linear_gradient("L").resize((32, 32)).save(tmp_path / folder / "a.png")
    return tmp_path / "root"


def read(root: Path, path: str) -> None:
    read_radiograph(root / path, Limits(), root)


def assert_refused(root: Path, path: str) -> None:
    with pytest.raises(ImageError, match="leads out of") as caught:
        read(root, path)
    assert caught.value.reason == "outside-root"
    with pytest.raises(ImageError, match="leads out of") as caught:
        atomic_write_beneath(root, root / path, b"content")
    assert caught.value.reason == "outside-root"


def test_files_below_the_root_are_read_and_written(root: Path) -> None:
    read(root, "in/a.png")
    atomic_write_beneath(root, root / "new/deep/a.jpg", b"content")
    assert (root / "new/deep/a.jpg").read_bytes() == b"content"
    assert [path.name for path in (root / "new/deep").iterdir()] == ["a.jpg"]


def test_folder_that_is_a_link_is_not_followed(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "private")
    (root / "near").symlink_to(root / "in")
    before = sorted((root.parent / "private").iterdir())
    assert_refused(root, "out/a.png")
    assert_refused(root, "near/a.png")
    assert sorted((root.parent / "private").iterdir()) == before


def test_ways_up_and_other_roots_are_refused(root: Path) -> None:
    assert_refused(root, "../private/a.png")
    assert_refused(root, "in/../../private/a.png")
    assert_refused(root, str(root.parent / "private" / "a.png"))


def test_file_that_became_a_link_is_not_read_and_not_written_through(root: Path) -> None:
    target = root.parent / "private" / "a.png"
    before = target.read_bytes()
    (root / "in" / "a.png").unlink()
    (root / "in" / "a.png").symlink_to(target)
    with pytest.raises(ImageError, match="leads out of"):
        read(root, "in/a.png")
    atomic_write_beneath(root, root / "in" / "a.png", b"content")
    assert target.read_bytes() == before
    assert not (root / "in" / "a.png").is_symlink()


def test_links_swapped_in_while_files_are_written_lead_nowhere(root: Path) -> None:
    """The folder changes between a link that leads outside and a real one, under the writer's hands."""
    private, swapped = root.parent / "private", root / "swapped"
    ended = threading.Event()

    def swap() -> None:
        for number in count():
            if ended.is_set():
                return
            with suppress(OSError):
                swapped.symlink_to(private)
            with suppress(OSError):
                swapped.unlink()
            with suppress(OSError):
                swapped.rename(root / f"before-{number}")

    refused = written = 0
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for number in range(500):
            try:
                atomic_write_beneath(root, swapped / f"{number}.jpg", b"content")
                written += 1
            except (ImageError, OSError):
                refused += 1
    finally:
        ended.set()
        swapper.join()
    assert written
    assert refused
    assert [path.name for path in private.iterdir()] == ["a.png"]


def test_names_that_are_not_utf8_have_a_text_that_finds_them(root: Path) -> None:
    name = os.fsdecode(b"in/caf\xe9 \xff\xfe.png")
    (root / "in" / "a.png").rename(root / name)
    assert escape_path(name) == r"in/caf\xe9 \xff\xfe.png"
    assert unescape_path(str(root), escape_path(name)) == name
    read(root, unescape_path(str(root), escape_path(name)))
    literal = r"in/b\xe9.png"
    (root / literal).touch()
    assert unescape_path(str(root), literal) == literal
    assert unescape_path(str(root), r"in/none\xe9.png") == r"in/none\xe9.png"


@pytest.mark.parametrize("path", ["é.png", "line\nbreak.png", r"back\slash.png", r"\x41.png"])
def test_valid_names_are_their_own_text(root: Path, path: str) -> None:
    assert escape_path(path) == path
    assert unescape_path(str(root), path) == path


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "out"
    atomic_write_beneath(root, root / "a" / "other.jpg", b"whole")
    left = [root / "a" / f"{_unfinished('one.jpg')}{number}" for number in range(2)]
    of_others = root / "a" / f"{_unfinished('two.jpg')}0"
    for file in (*left, of_others):
        file.write_bytes(b"half")

    remove_temp_files(root, [root / "a" / "one.jpg", root / "gone" / "three.jpg"])

    assert sorted((root / "a").iterdir()) == sorted([root / "a" / "other.jpg", of_others])
