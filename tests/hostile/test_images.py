"""Hundreds of hostile files through one process: each is explained or fails for a reason, within bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.hostile_corpus import Hostile, corpus, originals, write
from worker.errors import ImageError
from worker.explain.options import ExplainOptions
from worker.explain.overlay import render
from worker.file_names import escape_path
from worker.images.limits import Limits
from worker.images.reader import Radiograph, read_radiograph
from worker.model.metadata import Preprocessing

# Pillow warns of much that it then reads.
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[2]
REASONS = {
    "empty",
    "truncated",
    "not-an-image",
    "too-small",
    "too-large",
    "no-contrast",
    "multi-frame",
    "unsupported",
    "unreadable",
    "write-failed",
}

# Beyond what the process holds before: one image of 100 megapixels being drawn, and what leads up to it.
MEMORY = 1_500_000_000


@pytest.fixture(scope="module")
def files() -> list[Hostile]:
    return list(corpus())


@pytest.fixture(scope="module")
def told(files: list[Hostile], small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "in").mkdir()
    for hostile in files:
        write(folder / "in", hostile)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.read_corpus", folder / "in", small_model, folder / "out"],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["out"] = folder / "out"
    return found


def test_every_hostile_file_is_done_or_fails_for_a_known_reason(
    files: list[Hostile], told: dict[str, Any]
) -> None:
    outcomes = told["outcomes"]
    assert len(files) >= 500
    assert set(outcomes) == {escape_path(os.fsdecode(hostile.name)) for hostile in files}
    for name, (reason, error, has_overlay) in outcomes.items():
        assert has_overlay == (reason is None), name
        if reason is not None:
            assert reason in REASONS, (name, reason, error)
            assert error.isprintable(), name
            assert len(error) < 1000, name
    reasons = Counter(reason for reason, _, _ in outcomes.values())
    assert reasons[None] > 100  # what is flipped in its pixels alone is an image still
    assert len(reasons) >= 6
    # Of what no one foresaw, nothing.
    assert not [error for _, error, _ in outcomes.values() if "cannot be processed" in (error or "")]


def test_bombs_and_foreign_formats_fail(files: list[Hostile], told: dict[str, Any]) -> None:
    passed = [
        hostile.kind for hostile in files if hostile.must_fail and told["outcomes"][hostile.name.decode()][2]
    ]
    assert not passed


def test_whatever_the_name_the_image_is_explained(files: list[Hostile], told: dict[str, Any]) -> None:
    named = [escape_path(os.fsdecode(hostile.name)) for hostile in files if hostile.kind.startswith("name ")]
    assert len(named) > 30
    for name in named:
        if len(name.encode()) + len(".jpg") <= 255:
            assert told["outcomes"][name][2], (name, told["outcomes"][name])
    written = {escape_path(file.name) for file in told["out"].iterdir()}
    assert written == {f"{name}.jpg" for name, (_, _, done) in told["outcomes"].items() if done}
    for name in written:
        with Image.open(told["out"] / name) as overlay:
            overlay.verify()


def test_memory_and_time_stay_within_bounds(told: dict[str, Any]) -> None:
    assert told["bytes"] < MEMORY, f"{told['bytes']:,}"
    # XRAYCAM_IMAGE_TIMEOUT is 60 for one image; here is what sixteen took.
    assert told["slowest_batch"] < 60


def test_strip_of_a_large_image_is_refused_before_it_is_drawn() -> None:
    radiograph = Radiograph(Image.new("L", (9000, 6000)), 9000, 6000, "0" * 64)
    heatmaps = [(name, np.ones((7, 7))) for name in ("a", "b")]
    with pytest.raises(ImageError, match="3 pictures of 9000 x 6000 pixels") as caught:
        render(radiograph, heatmaps, Preprocessing(), ExplainOptions(overlay_side="full"))
    assert caught.value.reason == "too-large"
    assert render(radiograph, heatmaps, Preprocessing(), ExplainOptions()).width == 3 * 1024 + 2 * 4


ORIGINALS = originals()
EDITS = st.lists(st.tuples(st.integers(0, 4095), st.binary(max_size=8)), min_size=1, max_size=6)


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(sorted(ORIGINALS)), edits=EDITS, end=st.integers(1, 2**16))
def test_whatever_is_written_over_a_file_it_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str, edits: list[tuple[int, bytes]], end: int
) -> None:
    content = bytearray(ORIGINALS[kind])
    for place, written in edits:
        place %= len(content)
        content[place : place + len(written)] = written
    file = tmp_path_factory.getbasetemp() / "edited"
    file.write_bytes(content[:end])
    refusal = None
    try:
        radiograph = read_radiograph(file, Limits(), accept=frozenset({"multi-frame"}))
    except ImageError as error:
        refusal = error
    if refusal is None:
        assert radiograph.pixels.mode == "L"
        assert radiograph.pixels.size == (radiograph.width, radiograph.height)
    else:
        assert refusal.reason in REASONS
        assert str(refusal).isprintable()
