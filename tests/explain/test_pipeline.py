"""Every item has one outcome, and no file disturbs another."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import worker.explain.pipeline as pipeline_module
from worker.errors import ModelError
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.outcome import explained, overlay_facts
from worker.explain.overlay import recolour
from worker.explain.pipeline import ImageResult, ImageTask, Pipeline
from worker.images.limits import Limits
from worker.images.preprocess import preprocess
from worker.images.reader import read_radiograph
from worker.model.metadata import ModelMetadata
from worker.model.network import load_model

OPTIONS = ExplainOptions(output_format="png", caption=False)


@pytest.fixture(scope="module")
def explainer(model: tuple[ModelMetadata, Any]) -> Explainer:
    return Explainer(*model)


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    with Pipeline(readers=2, renderers=2, batch_size=4) as pipeline:
        yield pipeline


def items_of(files: list[Path], folder: Path, suffix: str = ".png") -> list[ImageTask]:
    return [
        ImageTask(number, file, folder / f"{file.name}{suffix}", file.name)
        for number, file in enumerate(files)
    ]


def by_name(outcomes: Iterator[ImageResult]) -> dict[str, ImageResult]:
    found = list(outcomes)
    assert len({outcome.task.image_id for outcome in found}) == len(found)
    return {outcome.task.name: outcome for outcome in found}


def test_good_and_bad_files_give_one_outcome_each(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    bad = {"empty.png": b"", "text.png": b"no image", "cut.png": image_file("x.png").read_bytes()[:900]}
    files = [image_file(f"good{number}.png", seed=number) for number in range(11)]
    for position, (name, content) in enumerate(bad.items()):
        (tmp_path / name).write_bytes(content)
        files.insert(3 * position, tmp_path / name)
    files.append(tmp_path / "gone.png")
    outcomes = by_name(pipeline.run(explainer, items_of(files, tmp_path / "out"), OPTIONS))
    assert len(outcomes) == 15
    reasons = {name: outcome.reason for name, outcome in outcomes.items() if outcome.reason is not None}
    assert reasons == {
        "empty.png": "empty", "text.png": "not-an-image", "cut.png": "truncated", "gone.png": "missing"
    }  # fmt: skip
    for name in reasons:
        assert name in (outcomes[name].error or "")
        assert outcomes[name].overlay is None
    overlays = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert overlays == sorted(f"good{number}.png.png" for number in range(11))


def test_outcome_says_what_the_explainer_said(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    files = [image_file(f"{number}.png", seed=number) for number in range(6)]
    outcomes = by_name(pipeline.run(explainer, items_of(files, tmp_path / "out"), OPTIONS))
    classes = explainer.metadata.classes
    for file in files:
        radiograph = read_radiograph(file, Limits())
        alone = explainer.explain(preprocess(radiograph, explainer.metadata.preprocessing)[np.newaxis])
        outcome = outcomes[file.name]
        assert outcome.error is None
        assert outcome.sha256 == radiograph.sha256
        assert (outcome.width, outcome.height) == (120, 80)
        assert outcome.predicted == outcome.target_class == classes[int(alone.scores[0].argmax())]
        assert outcome.probabilities == pytest.approx(
            dict(zip(classes, alone.probabilities[0], strict=True)), abs=1e-5
        )
        assert outcome.probability == max(outcome.probabilities.values())
        assert outcome.logit == pytest.approx(alone.scores[0].max(), abs=1e-4)
        assert outcome.heatmap_max["block_15_add"] == pytest.approx(alone.maxima["block_15_add"][0], rel=1e-3)
        assert outcome.overlay is not None
        assert Image.open(outcome.overlay).size == (120, 80)
        assert outcome.heatmap_file is None
        assert outcome.blank == (alone.maxima["block_15_add"][0] == 0)
    assert not all(outcome.blank for outcome in outcomes.values())


def test_target_class_is_the_one_explained(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    items = items_of([image_file()], tmp_path / "out")
    for name in explainer.metadata.classes:
        (outcome,) = pipeline.run(explainer, items, ExplainOptions(output_format="png", target=name))
        assert outcome.target_class == name
    with pytest.raises(ModelError, match="knows no class 'Pneumonia'; its classes are Normal"):
        list(pipeline.run(explainer, items, ExplainOptions(target="Pneumonia")))


@pytest.mark.parametrize(("first", "second", "is_blank"), [(0, 0, True), (0, 2, False), (2, 0, False)])
def test_an_image_is_blank_where_no_map_of_it_holds_anything(
    image_file: Callable[..., Path],
    model: tuple[ModelMetadata, Any],
    first: float,
    second: float,
    is_blank: bool,
) -> None:
    explainer = Explainer(*model, ["block_7_project", "out_relu"])
    radiograph = read_radiograph(image_file(), Limits())
    found = explainer.explain(preprocess(radiograph, explainer.metadata.preprocessing)[np.newaxis])
    maxima = {"block_7_project": np.float32([first]), "out_relu": np.float32([second])}
    (task,) = items_of([image_file()], Path("out"))
    outcome = explained(task, radiograph, replace(found, maxima=maxima), 0, explainer, None, None)
    assert outcome.blank == is_blank


def test_kept_heatmaps_draw_the_same_overlay(
    tmp_path: Path, image_file: Callable[..., Path], model: tuple[ModelMetadata, Any], pipeline: Pipeline
) -> None:
    options = ExplainOptions(output_format="png", heatmaps=True, caption=False)
    explainer = Explainer(*model, ["block_7_project", "out_relu"])
    (outcome,) = pipeline.run(explainer, items_of([image_file()], tmp_path / "out"), options)
    assert outcome.overlay is not None
    assert outcome.heatmap_file == tmp_path / "out" / "image.png.npz"
    again = recolour(outcome.task.source, outcome.heatmap_file, options)
    np.testing.assert_array_equal(np.asarray(Image.open(outcome.overlay)), np.asarray(again))


def test_blank_map_is_flagged_and_drawn_as_the_plain_radiograph(
    tmp_path: Path, image_file: Callable[..., Path], model_folder: Path, pipeline: Pipeline
) -> None:
    metadata, network = load_model(model_folder)
    kernel = network.get_layer("score").kernel
    kernel.assign(np.zeros(kernel.shape))
    (outcome,) = pipeline.run(
        Explainer(metadata, network), items_of([image_file()], tmp_path / "out"), OPTIONS
    )
    assert outcome.blank
    assert outcome.heatmap_max == {"block_15_add": 0}
    assert outcome.overlay is not None
    plain = Image.open(image_file()).convert("RGB")
    np.testing.assert_array_equal(np.asarray(Image.open(outcome.overlay)), np.asarray(plain))


def test_overlay_that_cannot_be_written_fails_its_image_only(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    items = items_of([image_file(f"{n}.png", seed=n) for n in range(3)], tmp_path / "out")
    items[1].overlay.mkdir(parents=True)
    outcomes = by_name(pipeline.run(explainer, items, OPTIONS))
    assert [outcomes[item.name].reason for item in items] == [None, "write-failed", None]


def test_fault_of_ours_in_one_image_does_not_take_the_batch(
    tmp_path: Path,
    image_file: Callable[..., Path],
    explainer: Explainer,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(file: Path, *others: Any) -> Any:
        if file.name == "1.png":
            raise RuntimeError("nobody thought\nof this")
        return read_radiograph(file, *others)

    monkeypatch.setattr(pipeline_module, "read_radiograph", faulty)
    files = [image_file(f"{n}.png", seed=n) for n in range(3)]
    outcomes = by_name(pipeline.run(explainer, items_of(files, tmp_path / "out"), OPTIONS))
    assert [outcomes[file.name].reason for file in files] == [None, "unreadable", None]
    assert (outcomes["1.png"].error or "").endswith(
        "cannot be processed: RuntimeError: nobody thought of this"
    )


def test_image_too_large_to_hold_is_read_again_and_drawn_alike(
    tmp_path: Path,
    image_file: Callable[..., Path],
    explainer: Explainer,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (item,) = items_of([image_file()], tmp_path / "out")
    (held,) = pipeline.run(explainer, [item], OPTIONS)
    content = item.overlay.read_bytes()
    monkeypatch.setattr(pipeline_module, "LARGE_PIXELS", 100)
    (read_again,) = pipeline.run(explainer, [item], OPTIONS)
    assert read_again == held
    assert item.overlay.read_bytes() == content


def test_items_are_taken_as_they_are_needed(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    taken = []

    def endless() -> Iterator[ImageTask]:
        file = image_file()
        while True:
            taken.append(1)
            yield ImageTask(len(taken), file, tmp_path / "out" / f"{len(taken)}.png", str(len(taken)))

    outcomes = pipeline.run(explainer, endless(), OPTIONS)
    for count in range(1, 41):
        next(outcomes)
        # Two batches read ahead, one explained, two drawn, of four images each.
        assert len(taken) <= count + 5 * 4
    outcomes.close()


def test_progress_is_called_after_each_batch_and_may_end_the_run(
    tmp_path: Path, image_file: Callable[..., Path], explainer: Explainer, pipeline: Pipeline
) -> None:
    items = items_of([image_file(f"{n}.png", seed=n) for n in range(10)], tmp_path / "out")
    calls: list[int] = []
    list(pipeline.run(explainer, items, OPTIONS, lambda: calls.append(1)))
    assert len(calls) == 3

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        list(pipeline.run(explainer, items, OPTIONS, stop))
    assert len(list(pipeline.run(explainer, items, OPTIONS))) == 10, "the pipeline can go on"


def test_no_items_give_no_outcomes(explainer: Explainer, pipeline: Pipeline) -> None:
    assert list(pipeline.run(explainer, [], OPTIONS)) == []


def test_caption_tells_the_decision_that_the_ledger_gets(
    tmp_path: Path, image_file: Callable[..., Path], model: tuple[ModelMetadata, Any], pipeline: Pipeline
) -> None:
    metadata = model[0].model_copy(update={"positive_class": "Normal"})
    explainer = Explainer(metadata, model[1])
    for threshold, told in ((0.0, "refer"), (100.0, "do-not-refer")):
        options = ExplainOptions(output_format="png", threshold=threshold)
        (outcome,) = pipeline.run(explainer, items_of([image_file()], tmp_path / "out"), options)
        assert outcome.overlay is not None
        facts = overlay_facts(outcome, explainer, options)
        assert (facts.threshold, facts.decision) == (threshold, told)
        with Image.open(outcome.overlay) as drawn:
            assert told in " ".join(str(value) for value in drawn.info.values())


def test_what_is_held_is_bounded_and_what_is_over_it_is_read_again(
    tmp_path: Path,
    image_file: Callable[..., Path],
    explainer: Explainer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images of 120 x 80 pixels, of which three may be held and none is known beforehand."""
    items = items_of([image_file(f"{n}.png", seed=n) for n in range(12)], tmp_path / "out")
    with Pipeline(readers=2, renderers=2, batch_size=4) as pipeline:
        drawn = [outcome.sha256 for outcome in pipeline.run(explainer, items, OPTIONS)]
        expected = [item.overlay.read_bytes() for item in items]
        reads: list[int] = []
        read = pipeline_module.read_radiograph

        def counted(*arguments: Any) -> Any:
            found = read(*arguments)
            reads.append(pipeline._held)
            return found

        monkeypatch.setattr(pipeline_module, "read_radiograph", counted)
        pipeline._most_held = 3 * 120 * 80
        again = [outcome.sha256 for outcome in pipeline.run(explainer, items, OPTIONS)]
        gc.collect()
        assert pipeline._held == 0
    assert max(reads) <= 3 * 120 * 80
    assert again == drawn
    assert [item.overlay.read_bytes() for item in items] == expected
