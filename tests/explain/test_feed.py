"""Images read and drawn by other processes end as those of threads do, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.made_dicom import dicom, picture
from worker.errors import StorageError
from worker.explain.explainer import Explainer
from worker.explain.feed import FeedProcessEnded
from worker.explain.options import ExplainOptions, Explanation
from worker.explain.pipeline import ImageResult, ImageTask, Pipeline
from worker.model.metadata import ModelMetadata

OPTIONS = ExplainOptions(output_format="png", heatmaps=True)
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def explainer(model: tuple[ModelMetadata, Any]) -> Explainer:
    return Explainer(*model)


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline(readers=2, renderers=2, batch_size=4, processes=2) as pipeline:
        yield pipeline


def items_of(files: list[Path], folder: Path) -> list[ImageTask]:
    return [ImageTask(n, file, folder / f"{file.name}.png", file.name) for n, file in enumerate(files)]


def process_ids(pipeline: Pipeline) -> list[int]:
    assert pipeline._feed is not None
    return [process.popen.pid for process in pipeline._feed._processes]


def held_by(pipeline: Pipeline) -> int:
    """How many images wait for an answer."""
    assert pipeline._feed is not None
    return sum(len(process.waiting) for process in pipeline._feed._processes)


def test_results_and_files_are_those_of_threads(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    files = [image_file(f"{n}.png", seed=n) for n in range(9)]
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:900])
    files += [tmp_path / "cut.png", tmp_path / "gone.png"]
    with Pipeline(readers=2, renderers=2, batch_size=4) as threads:
        expected = list(threads.run(explainer, items_of(files, tmp_path / "a"), OPTIONS))
    found = list(pipeline.run(explainer, items_of(files, tmp_path / "b"), OPTIONS))

    def place_free(results: list[ImageResult]) -> list[str]:
        ordered = sorted(results, key=lambda result: result.task.image_id)
        return [repr(replace(one, task=None, overlay=None, heatmap_file=None)) for one in ordered]

    assert place_free(found) == place_free(expected)
    assert sorted(one.task.name for one in found) == sorted(file.name for file in files)
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "b").iterdir())
    assert len(names) == 18
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_process_that_dies_ends_the_run_and_the_next_goes_on(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    items = items_of([image_file(f"{n}.png", seed=n) for n in range(12)], tmp_path / "out")
    before = process_ids(pipeline)

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.kill(before[0], signal.SIGKILL)

    with pytest.raises(FeedProcessEnded, match="a process that reads and draws ended"):
        list(pipeline.run(explainer, items, OPTIONS, kill))
    assert sum(one.reason is None for one in pipeline.run(explainer, items, OPTIONS)) == 12
    after = process_ids(pipeline)
    assert before[0] not in after
    assert after[1] == before[1]


def test_a_storage_that_is_away_is_said_as_that(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    item = items_of([image_file()], tmp_path / "out")[0]
    gone = replace(item, source=tmp_path / "share" / "x.png", read_root=tmp_path / "share")
    with pytest.raises(StorageError, match="share"):
        list(pipeline.run(explainer, [gone], OPTIONS))


def test_a_run_that_is_given_up_leaves_nothing_in_hand(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    items = items_of([image_file(f"{n}.png", seed=n) for n in range(20)], tmp_path / "out")
    outcomes = pipeline.run(explainer, items, OPTIONS)
    next(outcomes)
    outcomes.close()
    assert held_by(pipeline) == 0
    assert len(list(pipeline.run(explainer, items, OPTIONS))) == 20


def test_refused_images_are_not_drawn(
    tmp_path: Path,
    image_file: Callable[..., Path],
    explainer: Explainer,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explain = explainer.explain

    def odd(batch: Any, targets: Any) -> Explanation:
        return replace(explain(batch, targets), odd=["turned-180", *[""] * (len(batch) - 1)])

    monkeypatch.setattr(explainer, "explain", odd)
    items = items_of([image_file(f"{n}.png", seed=n) for n in range(4)], tmp_path / "out")
    options = ExplainOptions(output_format="png", odd="refuse")
    found = {one.task.name: one for one in pipeline.run(explainer, items, options)}
    assert [found[f"{n}.png"].reason for n in range(4)] == ["odd", None, None, None]
    assert not items[0].overlay.exists()


def test_marked_areas_and_dicom_facts_cross_over(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    source = image_file("marked.png", seed=3)
    area = np.zeros((80, 120), np.uint8)
    area[20:40, 30:60] = 255
    Image.fromarray(area).save(masks / "marked.png")
    header = tmp_path / "one.dcm"
    header.write_bytes(dicom(picture()))
    options = ExplainOptions(output_format="png", masks=str(masks), outlines=True)
    items = items_of([source, header], tmp_path / "out")
    found = {one.task.name: one for one in pipeline.run(explainer, items, options)}
    assert found["marked.png"].heat is None or found["marked.png"].heat.marked is not None
    assert found["one.dcm"].error is None
    assert found["one.dcm"].dicom is not None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends processes with their parent on Linux")
def test_processes_end_with_their_worker_even_if_they_hang() -> None:
    code = (
        "import os, signal, sys, time\n"
        "from worker.explain.pipeline import Pipeline\n"
        "pipeline = Pipeline(2, 2, processes=2)\n"
        "ids = [process.popen.pid for process in pipeline._feed._processes]\n"
        "pipeline.wait_until_ready()\n"
        "os.kill(ids[0], signal.SIGSTOP)\n"
        "print(*ids, flush=True)\n"
        "time.sleep(600)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    ids = [int(word) for word in worker.stdout.readline().split()]
    assert len(ids) == 2
    worker.kill()
    worker.wait()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{one}/stat").exists() and _runs(one) for one in ids):
        assert time.monotonic() < end, "a process outlived its worker"
        time.sleep(0.1)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
