"""Masks and images that belong together are counted; what is ambiguous is refused before a run is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model
from db.results import Filter, read_predictions
from db.runs import Progress, list_runs
from producer.cli import cli
from producer.commands.results import recolour_run
from producer.enqueue import Request, enqueue, preview
from producer.stall_notice import StallNotice, why_not_moving
from producer.viewer.facts import command_of
from tests.support.made_runs import finish, lease
from worker.errors import XraycamError
from worker.explain.job import ExplainerFacts, Job
from worker.explain.options import ExplainOptions
from worker.images.masks import load_masks
from worker.queue.broker import broker_error
from worker.settings import Settings, load_settings


@pytest.fixture
def settings(home: Path) -> Settings:
    assert home.parent.is_dir()
    return load_settings()


@pytest.fixture
def asked(
    tmp_path: Path, ledger: Ledger, home: Path, model_store: Callable[[Ledger, Path], Model]
) -> Callable[..., Request]:
    model_store(ledger, home)

    def request(images: list[str], masks: list[str]) -> Request:
        for folder, names in (("images", images), ("masks", masks)):
            for name in names:
                file = tmp_path / folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (64, 64), 255).save(file)
        return Request(tmp_path / "images", ExplainOptions(masks=str(tmp_path / "masks")))

    return request


def test_masks_without_an_image_are_counted(
    ledger: Ledger, settings: Settings, asked: Callable[..., Request]
) -> None:
    request = asked(["a.png", "b.png"], ["a.png", "c.png", "d_mask.png"])
    expected = [
        "masks: 1 of 2 images matched",
        "masks: 2 of 3 masks match no image, such as c.png",
    ]
    previewed = preview(ledger, settings, request).masks
    assert previewed is not None
    assert list(previewed.lines()) == expected
    matched = enqueue(ledger, settings, request).masks
    assert matched is not None
    assert list(matched.lines()) == expected


def test_other_masks_are_another_run_and_the_same_ones_are_not(
    ledger: Ledger, settings: Settings, asked: Callable[..., Request], tmp_path: Path
) -> None:
    request = asked(["ward/a.png", "ward/b.png"], ["ward/a.png"])
    first = enqueue(ledger, settings, request).run
    assert enqueue(ledger, settings, request).run.id == first.id
    Image.new("L", (64, 64), 255).save(tmp_path / "masks" / "ward" / "b.png")
    added = enqueue(ledger, settings, request)
    Image.new("L", (64, 64), 1).save(tmp_path / "masks" / "ward" / "b.png")
    found = preview(ledger, settings, request)
    corrected = enqueue(ledger, settings, request)
    assert [one.ingested.new for one in (added, corrected)] == [2, 2]
    assert found.run is None
    assert len({first.id, added.run.id, corrected.run.id}) == 3
    assert "digest" not in command_of(first)


def test_a_worker_that_stays_knows_masks_added_in_a_sub_folder(
    ledger: Ledger, settings: Settings, asked: Callable[..., Request], tmp_path: Path
) -> None:
    request = asked(["ward/a.png", "ward/b.png"], ["ward/a.png"])
    image = tmp_path / "images" / "ward" / "b.png"

    def seen_by_worker() -> bool:
        options = ExplainOptions.model_validate(enqueue(ledger, settings, request).run.options)
        facts = ExplainerFacts(metadata=None, panels=(), every_class=False)
        marked = Job(facts, options).marked
        assert marked is not None
        return marked.has_mask_for(image)

    assert not seen_by_worker()
    Image.new("L", (64, 64), 255).save(tmp_path / "masks" / "ward" / "b.png")
    assert seen_by_worker()


@pytest.mark.parametrize("command", ["resume", "retry"])
def test_a_run_is_not_continued_with_other_masks_than_it_began_with(
    home: Path,
    tmp_path: Path,
    model_store: Callable[[Ledger, Path], Model],
    settings: Settings,
    command: str,
) -> None:
    ours = Ledger(settings.database)
    migrate(ours)
    model_store(ours, home)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.new("L", (64, 64), 255).save(tmp_path / folder / "a.png")
    masked = ExplainOptions(masks=str(tmp_path / "masks"))
    run = enqueue(ours, settings, Request(tmp_path / "images", masked)).run
    finish(ours, lease(ours, run, 1), status="failed", reason="missing")
    Image.new("L", (64, 64), 1).save(tmp_path / "masks" / "a.png")
    said = CliRunner().invoke(cli, [command, str(run.id)])
    assert isinstance(said.exception, XraycamError)
    assert "are others than those the run began with" in str(said.exception)
    assert next(read_predictions(ours, Filter(run=run.id)))["status"] == "failed"


def test_a_worker_refuses_outlines_that_are_not_those_of_the_run(tmp_path: Path) -> None:
    def outlines(right: int) -> ExplainOptions:
        points = [[0, 0], [right, 0], [right, 9]]
        (tmp_path / "marked.json").write_text(json.dumps({"a.png": {"regions": [{"points": points}]}}))
        file = tmp_path / "marked.json"
        return ExplainOptions(masks=str(file), masks_digest=load_masks(file).digest)

    facts = ExplainerFacts(metadata=None, panels=(), every_class=False)
    begun = outlines(9)
    assert Job(facts, begun).marked is not None
    assert Job(facts, outlines(8)).marked is not None
    with pytest.raises(XraycamError, match="others than those the run began with"):
        _ = Job(facts, begun).marked


def test_outlines_of_other_masks_are_not_drawn_into_a_run_s_overlays(
    ledger: Ledger, settings: Settings, asked: Callable[..., Request], tmp_path: Path
) -> None:
    request = asked(["a.png"], ["a.png"])
    options = request.options.model_copy(update={"outlines": True, "heatmaps": True})
    run = enqueue(ledger, settings, replace(request, options=options)).run
    assert list(recolour_run(settings, ledger, run, "inferno", 0.5)) == []
    Image.new("L", (64, 64), 1).save(tmp_path / "masks" / "a.png")
    with pytest.raises(XraycamError, match=r"masks in .* have changed since run 1"):
        list(recolour_run(settings, ledger, run, "inferno", 0.5))


def test_masks_that_match_nothing_or_two_images_are_refused(
    ledger: Ledger, settings: Settings, asked: Callable[..., Request]
) -> None:
    with pytest.raises(XraycamError, match=r"matches none of the 2 images"):
        enqueue(ledger, settings, asked(["n/a.png", "m/b.png"], ["c.png"]))
    with pytest.raises(
        XraycamError, match=r"one mask is named as both .*put masks into the same sub-folders"
    ):
        enqueue(ledger, settings, asked(["n/a.png", "n/deep/a.png"], ["a.png"]))
    assert ledger.query(list_runs) == []


def test_a_line_is_printed_once_a_period_while_nothing_changes() -> None:
    said = StringIO()
    notice = StallNotice(Console(file=said, width=200), "run 3", every=0.0)
    for done in (1, 1, 2, 2):
        notice.look(done, lambda: why_not_moving(Progress(4, 0, 0, 2, 0, 0), [], None, "ImportError: no x"))
    line = "run 3: no progress for 0 s: no worker is alive; last error: ImportError: no x"
    assert said.getvalue().splitlines() == [line, line]
    silent = StringIO()
    patient = StallNotice(Console(file=silent), "run 3")
    patient.look(1, lambda: "")
    patient.look(1, lambda: "")
    assert silent.getvalue() == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            "HELLO must be called with the client already authenticated, otherwise ...",
            "wants a password: write",
        ),
        ("Authentication required.", "wants a password: write"),
        ("invalid username-password pair or user is disabled.", "refuses user or password"),
        ("DB index is out of range", "has no such database number"),
        ("Connection refused", "does not answer: Connection refused; check XRAYCAM_BROKER_URL"),
    ],
)
def test_a_refusal_of_the_broker_is_one_plain_line(answer: str, words: str) -> None:
    said = str(broker_error("redis://:hidden@broker:6379/0", ValueError(answer)))
    assert words in said
    assert "hidden" not in said
    assert "\n" not in said
