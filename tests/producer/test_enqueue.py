"""From a folder to a run: what is refused before anything is written, and what is taken in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from db.ingest import IngestStats
from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model
from db.runs import count_images, list_runs, progress
from producer.cli import cli
from producer.enqueue import Request, check_request, enqueue
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
