"""Folders that xraycam wrote say so, whichever command made them; nothing that reads images takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from producer.cli import cli
from producer.session import output_dir
from worker.errors import XraycamError
from worker.folder_walk import WalkCounts, image_files
from worker.our_folders import OUTPUT_MARKER


def draw(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((32, 32)).save(file)


def test_figures_beside_radiographs_are_none_of_them(tmp_path: Path) -> None:
    draw(tmp_path / "xrays" / "a.png")
    with output_dir(tmp_path / "xrays" / "sanity") as target:
        draw(target / "sanity.png")
    counts = WalkCounts()
    assert image_files(tmp_path / "xrays", counts) == [tmp_path / "xrays" / "a.png"]
    assert counts.skipped == {"ours": 2}
    for given in (target, target / "sanity.png"):
        with pytest.raises(XraycamError, match=r"sanity.* holds what xraycam wrote"):
            image_files(given)


def test_figures_are_not_written_among_radiographs(tmp_path: Path) -> None:
    draw(tmp_path / "xrays" / "ward" / "a.png")
    with (
        pytest.raises(XraycamError, match=r"xrays holds images, such as ward/a\.png"),
        output_dir(tmp_path / "xrays"),
    ):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for _ in range(2):
        with output_dir(tmp_path / "mine") as target:
            draw(target / "roc.png")
    asked = ["preview", str(tmp_path / "xrays"), "--output", str(tmp_path / "xrays" / "preview.png")]
    said = CliRunner().invoke(cli, asked)
    assert "would be taken for a radiograph" in str(said.exception) + said.output
    assert image_files(tmp_path / "xrays") == [tmp_path / "xrays" / "ward" / "a.png"]


def test_a_command_that_ends_in_an_error_leaves_no_mark(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "made/for/it"):
        with pytest.raises(XraycamError), output_dir(tmp_path / name):
            raise XraycamError("no")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "there"]
    with output_dir(tmp_path / "there"):
        pass
    assert (tmp_path / "there" / OUTPUT_MARKER).is_file()
