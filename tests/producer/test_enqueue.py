"""From a folder to a run: what is refused before anything is written, and what is taken in."""

from __future__ import annotations

import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from db.ingest import IngestStats
from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model, add_model, promote_model
from db.runs import count_images, list_runs, progress
from producer.cli import cli
from producer.commands.run import request_from, run_command
from producer.enqueue import Request, check_request, enqueue, preview
from producer.viewer.facts import command_of
from tests.support.made_runs import lease, paths
from worker.errors import ModelError, XraycamError
from worker.explain.options import ExplainOptions
from worker.settings import Settings, SettingsError, load_settings


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Nine files: enqueuing looks at names, sizes and times only."""
    folder = tmp_path / "archive"
    for number in range(9):
        file = folder / f"ward{number % 2}" / f"x{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * number)
    return folder


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    assert home.parent.is_dir()
    monkeypatch.setenv("XRAYCAM_CHUNK_SIZE", "4")
    return load_settings()


@pytest.fixture
def model(ledger: Ledger, home: Path, model_store: Callable[[Ledger, Path], Model]) -> Model:
    return model_store(ledger, home)


@pytest.mark.usefixtures("model")
def test_every_image_is_in_the_ledger_in_chunks(ledger: Ledger, settings: Settings, archive: Path) -> None:
    enqueued = enqueue(ledger, settings, Request(archive))
    assert enqueued.is_new
    assert enqueued.scanned.found == ledger.query(count_images, enqueued.run.id) == 9
    assert enqueued.ingested == IngestStats(new=9)
    found = ledger.query(progress, enqueued.run.id)
    assert (found.images, found.chunks, found.pending) == (9, 3, 9)
    assert enqueued.run.root == str(archive)


@pytest.mark.usefixtures("model")
def test_second_time_takes_in_what_is_new_only(ledger: Ledger, settings: Settings, archive: Path) -> None:
    first = enqueue(ledger, settings, Request(archive))
    (archive / "late.png").touch()
    (archive / "ward0" / "x0.png").write_bytes(b"changed")
    to_requeue = enqueue(ledger, settings, Request(archive))
    assert (to_requeue.run.id, to_requeue.is_new) == (first.run.id, False)
    assert to_requeue.ingested == IngestStats(new=1, unchanged=8, changed=1)
    forced = enqueue(ledger, settings, Request(archive, force=True))
    assert forced.run.id != first.run.id
    assert forced.ingested == IngestStats(new=10)


@pytest.mark.usefixtures("model")
def test_another_size_of_overlays_is_another_run(ledger: Ledger, settings: Settings, archive: Path) -> None:
    runs = [
        enqueue(ledger, settings, Request(archive, ExplainOptions(overlay_side=side))).run
        for side in (1024, "full", 512, 1024, "full")
    ]
    assert [run.id for run in runs] == [runs[index].id for index in (0, 1, 2, 0, 1)]
    assert len({run.id for run in runs}) == 3
    assert [run.options["overlay_side"] for run in runs[:3]] == [1024, "full", 512]


@pytest.mark.usefixtures("model")
def test_overlays_inside_the_folder_are_no_images(ledger: Ledger, settings: Settings, archive: Path) -> None:
    request = Request(archive, output=archive / "overlays")
    run = enqueue(ledger, settings, request).run
    overlay = Path(run.output) / "ward0" / "x0.png.jpg"
    overlay.parent.mkdir(parents=True)
    overlay.touch()
    assert enqueue(ledger, settings, request).ingested == IngestStats(unchanged=9)


@pytest.mark.usefixtures("model")
def test_overlays_of_another_output_or_home_are_no_images(
    ledger: Ledger, settings: Settings, archive: Path
) -> None:
    run = enqueue(ledger, settings, Request(archive, output=archive / "out")).run
    (Path(run.output) / "x0.png.jpg").touch()
    again = enqueue(ledger, settings, Request(archive))
    assert again.ingested == IngestStats(new=9)
    assert again.scanned.skipped["ours"] == 2
    with pytest.raises(XraycamError, match=r"run-000001 holds what xraycam wrote"):
        enqueue(ledger, settings, Request(Path(run.output)))
    with pytest.raises(XraycamError, match=r"out holds no image .*skipped: 2 files of xraycam"):
        enqueue(ledger, settings, Request(archive / "out"))


@pytest.mark.usefixtures("model")
def test_folder_without_images_is_refused_and_leaves_no_run(
    ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        XraycamError, match=r"empty holds no image \(.png, .jpg, .tif, DICOM, ...\); name a folder"
    ):
        enqueue(ledger, settings, Request(empty))
    (empty / "notes.txt").touch()
    with pytest.raises(XraycamError, match=r"skipped: 1 file beside images .*, such as notes.txt"):
        enqueue(ledger, settings, Request(empty))
    with pytest.raises(XraycamError, match="there is no folder"):
        enqueue(ledger, settings, Request(tmp_path / "nowhere"))
    assert ledger.query(list_runs) == []
    assert enqueue(ledger, settings, Request(empty, globs=("*",))).ingested.new == 1


def test_unknown_layer_class_and_model_are_refused_with_those_near(
    ledger: Ledger, settings: Settings, archive: Path, model: Model
) -> None:
    def refused(request: Request) -> str:
        with pytest.raises(Exception, match=model.version) as refusal:
            check_request(ledger, settings, request)
        assert type(refusal.value).__name__ in ("ModelError", "ModelNotFound")
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    assert "near: block_12_add" in refused(Request(archive, ExplainOptions(layers=("block_12_ad",))))
    assert "Normal, Tuberculosis" in refused(Request(archive, ExplainOptions(target="TB")))
    assert "there is no model 'big'" in refused(Request(archive, model="big"))
    check_request(ledger, settings, Request(archive, ExplainOptions(target="Normal"), model=model.version))


def test_damaged_model_is_refused_before_anything_is_written(
    ledger: Ledger, settings: Settings, archive: Path, model: Model
) -> None:
    weights = settings.home / "models" / model.version / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged: its SHA-256 is"):
        enqueue(ledger, settings, Request(archive))
    assert ledger.query(list_runs) == []


def test_dry_run_says_what_would_be_done_and_does_nothing(
    settings: Settings, archive: Path, model_store: Callable[[Ledger, Path], Model], home: Path
) -> None:
    ledger = Ledger(settings.database)
    migrate(ledger)
    model_store(ledger, home)
    (archive / "notes.txt").touch()
    said = CliRunner().invoke(cli, ["enqueue", str(archive), "--dry-run"], catch_exceptions=False)
    assert said.stdout == (
        f"would enqueue 9 images of {archive} in 3 chunks: a new run, model small\n"
        "of 9 images found (0.0 MB): 9 new, 0 done already, 0 changed, 0 to retry\n"
    )
    assert "skipped: 1 file beside images (.csv, .json, .txt, ...), such as notes.txt" in said.stderr
    assert ledger.query(list_runs) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CHUNK_SIZE", "none", "XRAYCAM_CHUNK_SIZE='none'"),
        ("CHUNK_SIZE", "0", "XRAYCAM_CHUNK_SIZE='0': Input should be greater than or equal to 1"),
        ("CHUNK_SISE", "8", "there is no setting XRAYCAM_CHUNK_SISE; did you mean XRAYCAM_CHUNK_SIZE?"),
        ("BROKER_URL", "amqp://:hidden@host/", "must begin with redis://, rediss:// or redis+socket://"),
        ("BROKER_URL", "redis://:hidden@10.1.2.3/0", "names another machine (10.1.2.3), but the ledger is"),
        ("LOG_LEVEL", "LOUD", "XRAYCAM_LOG_LEVEL='LOUD'"),
    ],
)
@pytest.mark.usefixtures("home")
def test_setting_that_cannot_be_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"XRAYCAM_{name}", value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert words in str(refusal.value)
    assert "hidden" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("home")
def test_remote_broker_is_accepted_with_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XRAYCAM_BROKER_URL", "redis://10.1.2.3/0")
    monkeypatch.setenv("XRAYCAM_DATABASE_URL", "postgresql+psycopg://user:hidden@10.1.2.3/xraycam")
    settings = load_settings()
    assert settings.broker == "redis://10.1.2.3/0"
    assert "hidden" not in repr(settings)


@pytest.mark.slow
def test_benchmark_of_enqueuing_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.enqueue", "--files", "3000"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "many again" in done.stdout
    assert "memory for 1,000 more files" in done.stdout


@pytest.mark.usefixtures("model")
def test_two_ledgers_with_one_output_folder_do_not_share_a_run_s_folder(
    ledger: Ledger, settings: Settings, archive: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    (shared / "run-000001").mkdir(parents=True)  # of a run of another ledger
    enqueued = enqueue(ledger, settings, Request(archive, output=shared))
    assert Path(enqueued.run.output) == shared / "run-000002"
    assert [run.id for run in ledger.query(list_runs)] == [2]
    again = enqueue(ledger, settings, Request(archive, output=shared))
    assert (again.run.id, again.is_new) == (2, False)


@pytest.mark.usefixtures("model")
def test_one_file_or_a_pattern_is_a_run_of_its_own_which_the_same_command_continues(
    ledger: Ledger, settings: Settings, archive: Path
) -> None:
    with zipfile.ZipFile(archive / "more.zip", "w") as made:
        made.writestr("y1.png", b"y")
        made.writestr("y2.png", b"y")
    asked = {
        "all": Request(archive),
        "a file": Request(archive / "ward0" / "x0.png"),
        "another": Request(archive / "ward0" / "x2.png"),
        "its folder": Request(archive / "ward0"),
        "an archive": Request(archive / "more.zip"),
        "of the archive": Request(archive / "more.zip", globs=("*1.png",)),
        "a pattern": Request(archive, globs=("x1*",)),
        "two patterns": Request(archive, globs=("x3*", "x1*")),
    }
    found = {}
    for name, request in asked.items():
        assert preview(ledger, settings, request).run is None, name
        enqueued = enqueue(ledger, settings, request)
        assert enqueued.is_new, name
        found[name] = enqueued.run
    held = {name: [path.rpartition("/")[2] for path in paths(ledger, run)] for name, run in found.items()}
    assert [len(held[name]) for name in ("all", "its folder")] == [11, 5]
    assert {name: held[name] for name in asked if name not in ("all", "its folder")} == {
        "a file": ["x0.png"],
        "another": ["x2.png"],
        "an archive": ["y1.png", "y2.png"],
        "of the archive": ["y1.png"],
        "a pattern": ["x1.png"],
        "two patterns": ["x1.png", "x3.png"],
    }
    for name, request in asked.items():
        continued = preview(ledger, settings, request).run
        assert continued is not None, name
        again = enqueue(ledger, settings, request)
        assert (again.run.id, again.ingested.new) == (continued.id, 0) == (found[name].id, 0), name
    other_order = Request(archive, globs=("x1*", "x3*", "x1*"))
    assert enqueue(ledger, settings, other_order).run.id == found["two patterns"].id


def test_a_run_of_a_part_is_told_as_such(
    settings: Settings, archive: Path, model_store: Callable[[Ledger, Path], Model], home: Path
) -> None:
    ledger = Ledger(settings.database)
    migrate(ledger)
    model_store(ledger, home)
    file = archive / "ward0" / "x0.png"
    run = enqueue(ledger, settings, Request(file)).run
    assert (run.root, run.asked, command_of(run)) == (str(file.parent), str(file), f"xraycam run {file}")
    run = enqueue(ledger, settings, Request(archive, globs=("x1*",))).run
    assert command_of(run) == f"xraycam run {archive} --glob 'x1*'"
    options = ExplainOptions(
        caption=False, heatmaps=True, accept=("lateral",), layers=("out_relu",), overlay_side="full"
    )
    elsewhere = archive.parent / "else where"
    for output in (None, elsewhere):
        request = Request(archive, options, "small", globs=("x3*", "x1*"), output=output)
        run = enqueue(ledger, settings, request).run
        _, name, *words = shlex.split(command_of(run, str(settings.overlays)))
        asked = request_from(run_command.make_context(name, words).params)
        assert enqueue(ledger, settings, asked).run.id == run.id
    assert Path(run.output).parent == elsewhere
    said = CliRunner(env={"COLUMNS": "400"}).invoke(cli, ["runs"], catch_exceptions=False)
    assert f"{archive} (x1*)" in said.stdout
    assert str(file) in said.stdout
    said = CliRunner().invoke(cli, ["enqueue", str(file), "--dry-run"], catch_exceptions=False)
    assert f"would enqueue 1 image of {file} in 1 chunk: run 1, continued" in said.stdout


def test_a_run_of_a_named_model_is_explained_by_no_other(
    ledger: Ledger, settings: Settings, archive: Path, model: Model
) -> None:
    unnamed, named = Request(archive), Request(archive, model=model.version)
    first = enqueue(ledger, settings, unnamed).run
    ledger.write(
        add_model, version="other", digest="0" * 64, classes=model.classes, source="a test", metrics={}
    )
    ledger.write(promote_model, "other")
    (archive / "late.png").touch()
    assert preview(ledger, settings, named).run is None
    second = enqueue(ledger, settings, named)
    assert second.is_new
    assert (first.pinned_model, second.run.pinned_model) == (None, model.version)
    explained_by = lease(ledger, second.run, 1).model
    assert explained_by is not None
    assert explained_by.version == model.version
    continued = preview(ledger, settings, named).run
    assert continued is not None
    assert continued.id == second.run.id == enqueue(ledger, settings, named).run.id
    ledger.write(promote_model, model.version)
    assert enqueue(ledger, settings, unnamed).run.id == first.id
