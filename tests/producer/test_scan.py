"""Scanning a folder: every image once, whatever lies about, and a word for what is left out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from producer.scan import ScanCounts, resolve_folder, scan
from worker.errors import XraycamError
from worker.file_names import unescape_path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 7)


def found(folder: Path, *globs: str, exclude: tuple[Path, ...] = ()) -> list[str]:
    return sorted(
        file.path for file in scan(resolve_folder(folder), ScanCounts(), globs=globs, exclude=exclude)
    )


def counted(folder: Path) -> tuple[list[str], ScanCounts]:
    counts = ScanCounts()
    return sorted(file.path for file in scan(resolve_folder(folder), counts)), counts


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def test_images_are_known_by_their_extension_in_any_case(archive: Path) -> None:
    images = ["a.png", "b.JPG", "c.jpeg", "d.Tiff", "e.bmp", "f.webp", "g.gif", "h.dcm", "i.tif", "j.dicom"]
    touch(archive, *images, "notes.txt", "png", "table.csv", "scan.png.bak")
    paths, counts = counted(archive)
    assert paths == images
    assert (counts.found, counts.other_type) == (10, 4)
    assert counts.examples["other_type"] in ("notes.txt", "png", "table.csv", "scan.png.bak")


def test_size_and_time_of_change_are_those_of_the_file(archive: Path) -> None:
    touch(archive, "a.png")
    os.utime(archive / "a.png", ns=(1, 1_700_000_000_123_456_789))
    (file,) = scan(resolve_folder(archive), ScanCounts())
    assert (file.path, file.size) == ("a.png", 7)
    assert file.modified_ns == (archive / "a.png").stat().st_mtime_ns


def test_folders_are_entered_however_deep(archive: Path) -> None:
    deep = "/".join(f"level{number}" for number in range(60))
    touch(archive, "a.png", "one/b.png", "one/two/c.png", f"{deep}/d.png")
    assert found(archive) == ["a.png", f"{deep}/d.png", "one/b.png", "one/two/c.png"]


def test_same_folder_gives_the_same_set_every_time(archive: Path) -> None:
    touch(archive, *(f"ward{number % 7}/x{number}.png" for number in range(200)))
    assert found(archive) == found(archive) == sorted(f"ward{n % 7}/x{n}.png" for n in range(200))


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (("*.png",), ["a.png", "one/b.png"]),
        (("*.PNG",), []),
        (("*.txt", "a*"), ["a.png", "one/notes.txt"]),
        (("one/*",), ["one/b.png", "one/notes.txt", "one/two/c.jpg"]),
        (("*/two/*.jpg",), ["one/two/c.jpg"]),
        (("[ab].png",), ["a.png", "one/b.png"]),
        (("*",), ["a.png", "one/b.png", "one/notes.txt", "one/two/c.jpg"]),
    ],
)
def test_globs_choose_by_name_or_by_path_where_they_have_a_slash(
    archive: Path, globs: tuple[str, ...], names: list[str]
) -> None:
    touch(archive, "a.png", "one/b.png", "one/notes.txt", "one/two/c.jpg")
    assert found(archive, *globs) == names


def test_hidden_files_and_folders_are_passed_over(archive: Path) -> None:
    touch(archive, "a.png", ".b.png", ".cache/c.png", "one/.thumbs/d.png")
    assert found(archive) == ["a.png"]
    assert found(archive, "*") == ["a.png"]


def test_our_own_folders_are_left_out(archive: Path) -> None:
    touch(archive, "a.png", "xraycam-data/overlays/run-000001/a.png.jpg", "one/xraycam-data/b.png")
    assert found(archive, exclude=(archive / "xraycam-data",)) == ["a.png", "one/xraycam-data/b.png"]


def test_links_that_lead_outside_are_told_and_not_followed(archive: Path, tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/b.png", "archive-2/c.png")
    touch(archive, "a.png")
    (archive / "file.png").symlink_to(tmp_path / "elsewhere/b.png")
    (archive / "folder").symlink_to(tmp_path / "elsewhere")
    (archive / "similar.png").symlink_to(tmp_path / "archive-2/c.png")
    (archive / "up.png").symlink_to("../elsewhere/b.png")
    (archive / "notes").symlink_to(tmp_path / "none")
    paths, counts = counted(archive)
    assert paths == ["a.png"]
    assert counts.external_symlinks == 4


def test_links_inside_are_images_but_linked_folders_are_scanned_once(archive: Path) -> None:
    touch(archive, "one/a.png")
    (archive / "link.png").symlink_to("one/a.png")
    (archive / "folder.png").symlink_to("one")
    (archive / "one" / "round").symlink_to("..")
    (archive / "gone.png").symlink_to("one/gone.png")
    paths, counts = counted(archive)
    assert paths == ["link.png", "one/a.png"]
    assert counts.external_symlinks == 0


def test_folder_reached_by_a_link_is_scanned_where_it_is(archive: Path, tmp_path: Path) -> None:
    touch(archive, "a.png")
    (tmp_path / "link").symlink_to(archive)
    assert resolve_folder(tmp_path / "link").root == archive
    assert found(tmp_path / "link") == ["a.png"]


def test_pipes_and_folders_named_like_images_are_no_images(archive: Path) -> None:
    os.mkfifo(archive / "pipe.png")
    touch(archive, "folder.png/a.png")
    assert found(archive) == ["folder.png/a.png"]


def test_folders_that_fail_are_told_and_the_rest_is_found(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(archive, "a.png", "closed/b.png", "open/c.png")
    scandir = os.scandir

    def failing(path: str) -> object:
        if path.endswith("/closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    paths, counts = counted(archive)
    assert paths == ["a.png", "open/c.png"]
    assert (counts.unreadable_folders, counts.examples["unreadable_folders"]) == (1, "closed")
    monkeypatch.setattr(
        os, "scandir", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(
        XraycamError, match=r"archive cannot be read: Permission denied; check its permissions"
    ):
        counted(archive)


def test_paths_longer_than_the_ledger_takes_are_told(archive: Path) -> None:
    touch(archive, "a.png")
    inner = archive
    while len(str(inner.relative_to(archive))) < 1600:
        inner /= "n" * 200
    inner.mkdir(parents=True)
    touch(inner, "b.png")
    paths, counts = counted(archive)
    assert paths == ["a.png"]
    assert counts.unreadable_folders == 1


@pytest.mark.skipif(sys.platform != "linux", reason="macOS allows no such names")
def test_names_that_are_not_utf8_are_taken_with_escapes_that_lead_back_to_them(archive: Path) -> None:
    touch(archive, "größe 日本.png")
    (archive / os.fsdecode(b"bad\xff.png")).write_bytes(b"x")
    (archive / os.fsdecode(b"folder\xfe")).mkdir()
    (archive / os.fsdecode(b"folder\xfe") / "b.png").write_bytes(b"x")
    paths, counts = counted(archive)
    assert paths == [r"bad\xff.png", r"folder\xfe/b.png", "größe 日本.png"]
    assert counts.names_not_utf8 == 0
    assert all((archive / unescape_path(str(archive), path)).read_bytes() for path in paths)
    only = resolve_folder(archive / os.fsdecode(b"bad\xff.png"))
    assert [file.path for file in scan(only, ScanCounts())] == [r"bad\xff.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS allows no such names")
def test_name_whose_escapes_are_the_name_of_another_is_told(archive: Path) -> None:
    touch(archive, r"bad\xff.png")
    (archive / os.fsdecode(b"bad\xff.png")).write_bytes(b"x")
    paths, counts = counted(archive)
    assert paths == [r"bad\xff.png"]
    assert counts.names_not_utf8 == 1
    assert counts.examples["names_not_utf8"].isascii()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS allows no such names")
def test_folder_whose_own_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"bad\xff")
    folder.mkdir()
    with pytest.raises(XraycamError, match="not valid UTF-8; rename it"):
        resolve_folder(folder)


def test_names_with_line_breaks_are_images_and_examples_stay_one_line(archive: Path) -> None:
    touch(archive, "new\nline.png", "new\nline.txt")
    paths, counts = counted(archive)
    assert paths == ["new\nline.png"]
    assert counts.examples["other_type"] == "'new\\nline.txt'"


def test_times_beyond_what_a_database_takes_are_bounded(archive: Path) -> None:
    touch(archive, "a.png")
    os.utime(archive / "a.png", (0, 2**34))  # the year 2514; some file systems bound it themselves
    (file,) = scan(resolve_folder(archive), ScanCounts())
    assert 0 < file.modified_ns < 2**63


def test_single_file_is_a_folder_of_one(archive: Path) -> None:
    touch(archive, "a.png", "b.png", "notes.txt")
    assert found(archive / "b.png") == ["b.png"]
    assert resolve_folder(archive / "b.png").root == archive
    assert found(archive / "notes.txt") == ["notes.txt"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        XraycamError, match=r"there is no folder .*nowhere; name an existing folder of images"
    ):
        resolve_folder(tmp_path / "nowhere")
    with pytest.raises(XraycamError, match="cannot be read: File name too long"):
        resolve_folder(tmp_path / ("n" * 300))


def test_home_is_understood(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(archive.parent))
    assert resolve_folder(Path("~/archive")).root == archive
