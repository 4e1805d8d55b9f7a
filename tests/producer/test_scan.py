"""Scanning a folder: every image once, whatever lies about, and a word for what is left out."""

from __future__ import annotations

import os
import sys
import zipfile
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
    assert (counts.found, dict(counts.skipped)) == (10, {"sidecars": 2, "other_type": 1, "temporary": 1})
    assert counts.examples["other_type"] == "png"


def test_every_format_that_is_read_is_found_by_its_extension(archive: Path) -> None:
    images = [f"a.{kind}" for kind in ("apng", "btf", "j2c", "j2k", "jls", "jp2", "jpc", "jxl", "pfm", "pgm")]
    touch(archive, *images)
    assert found(archive) == images


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
        (("**/*.png",), ["a.png", "one/b.png"]),
        (("one/**/*.jpg", "one/**/b.png"), ["one/b.png", "one/two/c.jpg"]),
        (("**/two/**/c.jpg",), ["one/two/c.jpg"]),
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


def test_what_xraycam_wrote_is_left_out_wherever_it_lies_and_counted(archive: Path) -> None:
    touch(
        archive,
        "a.png",
        *(f"old/home/{name}" for name in ("ledger.sqlite3", "spool/received/b.dcm")),
        *(f"old/home/overlays/run-000001/{name}" for name in ("xraycam-run.json", "a.png.jpg")),
        *(f"ward/renamed/{name}" for name in ("xraycam-run.json", "a.png.jpg", "deep/b.png.jpg")),
        *(f"ward/report/{name}" for name in ("xraycam-report.json", "pictures/0001/1-overlay.webp")),
        *(f"compared/{name}" for name in ("xraycam-output.json", "a.png.png")),
        *(f"version/{name}" for name in ("model.json", "weights.safetensors", "roc.png")),
        "models/b.png",
    )
    paths, counts = counted(archive)
    assert paths == ["a.png", "models/b.png"]
    assert dict(counts.skipped) == {"ours": 4 + 3 + 2 + 2 + 3}
    assert [line.partition(" such as")[0] for line in counts.lines()] == [
        "skipped: 14 files of xraycam (its overlays, reports, figures, models and home folders),"
    ]


def test_a_marker_is_found_in_a_folder_of_thousands(archive: Path) -> None:
    touch(archive, *(f"run/x{number}.jpg" for number in range(1500)), "run/xraycam-run.json")
    assert found(archive) == []


def test_a_folder_of_our_pictures_is_refused_by_name_but_not_what_else_lies_in_a_home(archive: Path) -> None:
    run = "home/overlays/run-000001"
    touch(archive, "home/ledger.sqlite3", "home/identity.key", f"{run}/xraycam-run.json", f"{run}/ward/a.jpg")
    touch(archive, "home/spool/received/day/b.dcm", "home/reviewed/Normal/c.png", "home/sanity/first/d.png")
    for name in (run, f"{run}/ward", f"{run}/ward/a.jpg"):
        with pytest.raises(XraycamError, match=r"holds what xraycam wrote .*delete .*xraycam-run\.json"):
            resolve_folder(archive / name)
    assert found(archive / "home" / "spool" / "received") == ["day/b.dcm"]
    assert found(archive / "home" / "reviewed") == ["Normal/c.png"]
    assert found(archive / "home") == ["reviewed/Normal/c.png", "spool/received/day/b.dcm"]


def test_our_folders_in_an_archive_are_left_out(archive: Path) -> None:
    with zipfile.ZipFile(archive / "copy.zip", "w") as copy:
        for name in (
            "case/a.png", "home/ledger.sqlite3", "home/models/first/model.json", "home/models/first/roc.png",
            "out/run-000001/ward/a.png.jpg", "out/run-000001/xraycam-run.json",
        ):  # fmt: skip
            copy.writestr(name, b"x")
    paths, counts = counted(archive)
    assert paths == ["copy.zip!/case/a.png"]
    assert dict(counts.skipped) == {"ours": 5}


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
    assert counts.skipped["external_symlinks"] == 4


def test_links_inside_are_images_but_linked_folders_are_scanned_once(archive: Path) -> None:
    touch(archive, "one/a.png")
    (archive / "link.png").symlink_to("one/a.png")
    (archive / "folder.png").symlink_to("one")
    (archive / "one" / "round").symlink_to("..")
    (archive / "gone.png").symlink_to("one/gone.png")
    paths, counts = counted(archive)
    assert paths == ["link.png", "one/a.png"]
    assert counts.skipped["external_symlinks"] == 0


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
    assert (counts.skipped["unreadable_folders"], counts.examples["unreadable_folders"]) == (1, "closed")
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
    assert counts.skipped["unreadable_folders"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="macOS allows no such names")
def test_names_that_are_not_utf8_are_taken_with_escapes_that_lead_back_to_them(archive: Path) -> None:
    touch(archive, "größe 日本.png")
    (archive / os.fsdecode(b"bad\xff.png")).write_bytes(b"x")
    (archive / os.fsdecode(b"folder\xfe")).mkdir()
    (archive / os.fsdecode(b"folder\xfe") / "b.png").write_bytes(b"x")
    paths, counts = counted(archive)
    assert paths == [r"bad\xff.png", r"folder\xfe/b.png", "größe 日本.png"]
    assert counts.skipped["names_not_utf8"] == 0
    assert all((archive / unescape_path(str(archive), path)).read_bytes() for path in paths)
    only = resolve_folder(archive / os.fsdecode(b"bad\xff.png"))
    assert [file.path for file in scan(only, ScanCounts())] == [r"bad\xff.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS allows no such names")
def test_name_whose_escapes_are_the_name_of_another_is_told(archive: Path) -> None:
    touch(archive, r"bad\xff.png")
    (archive / os.fsdecode(b"bad\xff.png")).write_bytes(b"x")
    paths, counts = counted(archive)
    assert paths == [r"bad\xff.png"]
    assert counts.skipped["names_not_utf8"] == 1
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
    assert counts.examples["sidecars"] == "'new\\nline.txt'"


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


LEFT_OVER = {
    ".Trash-1000/files/x.png": "trash", "$RECYCLE.BIN/S-1/x.png": "trash", "#recycle/x.png": "trash",
    "one/.Trashes/501/x.png": "trash", "@Recycle/x.png": "trash",
    "one/@eaDir/x.png/SYNOPHOTO_THUMB_M.png": "system", "#snapshot/daily/x.png": "system",
    ".snapshot/x.png": "system", "lost+found/x.png": "system", "System Volume Information/x.png": "system",
    "__MACOSX/one/x.png": "system", ".ipynb_checkpoints/x.png": "system", "._x.png": "system",
    "Thumbs.db": "system", "Desktop.ini": "system", ".DS_Store": "system",
    "~$x.png": "temporary", "x.png~": "temporary", "x.tmp": "temporary", "x.png.part": "temporary",
    "x.png.crdownload": "temporary", ".hidden.png": "hidden", "masks/x.png": "masks",
    "ManualMask/leftMask/x.png": "masks", "x_mask.png": "masks", "DICOMDIR": "dicomdir",
    "x.json": "sidecars", "list.CSV": "sidecars",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), LEFT_OVER.items())
def test_left_overs_of_systems_and_programs_are_counted_by_kind(archive: Path, name: str, kind: str) -> None:
    touch(archive, "a.png", name)
    paths, counts = counted(archive)
    assert paths == ["a.png"]
    assert (dict(counts.skipped), counts.examples) == ({kind: 1}, {kind: name})


def test_what_was_left_out_is_told_in_a_line_for_each_kind(archive: Path) -> None:
    touch(archive, "a.png", "b.csv", *(f".Trash-1000/files/{n}.png" for n in range(6)))
    _, counts = counted(archive)
    trash, sidecars = counts.lines()
    assert trash.startswith("skipped: 6 files in trash folders, such as .Trash-1000/files/")
    assert sidecars == "skipped: 1 file beside images (.csv, .json, .txt, ...), such as b.csv"


def test_names_that_only_look_like_left_overs_are_images(archive: Path) -> None:
    names = ["unmasked.png", "mask on/a.png", "trashed/a.png", "old.png", "partial view/a.png", "tmp.png"]
    touch(archive, *names)
    assert found(archive) == sorted(names)


def test_dicom_is_found_by_content_whatever_the_name(archive: Path) -> None:
    marked = bytes(128) + b"DICM" + bytes(60)
    headerless = (
        bytes.fromhex("08000500")
        + b"CS\x0a\x00ISO_IR 100"
        + bytes.fromhex("08000800")
        + b"CS\x02\x00AA"
        + bytes(60)
    )
    media = bytes(128) + b"DICM" + b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"
    for name, content in {
        "IM000001": marked, "1.2.840.113619.2": marked, "scan.ima": headerless, "index": media,
        "notes": b"some text that is long enough" * 9, "table.csv": marked, "empty": b"",
    }.items():  # fmt: skip
        (archive / name).write_bytes(content)
    paths, counts = counted(archive)
    assert paths == ["1.2.840.113619.2", "IM000001", "scan.ima"]
    assert dict(counts.skipped) == {"dicomdir": 1, "other_type": 2, "sidecars": 1}
