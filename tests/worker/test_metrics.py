"""What Prometheus is told on a launcher's port, and what `watch` says of the fleet."""

from __future__ import annotations

import io
import urllib.request

import pytest
from pydantic import SecretStr
from rich.console import Console

from db.ingest import RunIngest, ScannedFile
from db.leases import Lease, lease_chunk, record_results, release_leases_of
from db.ledger import Ledger
from db.runs import Run, open_run
from db.workers import register_worker
from producer.progress import ProgressDisplay
from tests.support.servers import Valkey, free_port
from worker.errors import XraycamError
from worker.queue.messages import EXPLAIN_QUEUE
from worker.settings import Settings, load_settings
from worker.supervisor.metrics import serve_metrics


@pytest.fixture
def run(ledger: Ledger) -> Run:
    """Ten images in chunks of four: one chunk done, with a failed image; one lost; one waiting."""
    opened, is_new = ledger.write(
        open_run, root="/x", output="/o", options={}, model_version="a", pinned=False, chunk_size=4
    )
    intake = RunIngest(ledger, opened, is_new=is_new)
    intake.add([ScannedFile(f"{number}.png", 1, 1) for number in range(10)])
    intake.close()
    held = ledger.write(lease_chunk, opened.id, 1, "one", 60)
    assert isinstance(held, Lease)
    rows = [{"image_id": image.id, "status": "done"} for image in held.images]
    rows[0] |= {"status": "failed", "reason": "truncated"}
    ledger.write(record_results, held, rows)
    ledger.write(lease_chunk, opened.id, 2, "two", 60)
    ledger.write(release_leases_of, "two")
    ledger.write(register_worker, name="w[/]", host="h", pid=1, device="cpu", queues=EXPLAIN_QUEUE)
    return opened


def settings_of(ledger: Ledger, broker: str | None) -> Settings:
    url = ledger.url.render_as_string(hide_password=False)
    update = {"database_url": SecretStr(url), "broker_url": SecretStr(broker) if broker else None}
    return load_settings().model_copy(update=update)


def scrape(settings: Settings) -> list[str]:
    port = free_port()
    server = serve_metrics(settings, lambda: 2, "127.0.0.1", port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            text = response.read().decode()
        with pytest.raises(XraycamError, match="cannot be listened on"):
            serve_metrics(settings, lambda: 0, "127.0.0.1", port)
    finally:
        server.shutdown()
        server.server_close()
    return [line for line in text.splitlines() if not line.startswith("#") and "_created" not in line]


@pytest.mark.usefixtures("home")
def test_metrics_tell_queue_runs_workers_and_what_was_lost(ledger: Ledger, valkey: Valkey, run: Run) -> None:
    valkey.client().lpush(EXPLAIN_QUEUE, "a", "b")
    found = scrape(settings_of(ledger, valkey.url))
    number = run.id
    for line in (
        f'xraycam_images{{run="{number}",status="pending"}} 6.0',
        f'xraycam_images{{run="{number}",status="done"}} 3.0',
        f'xraycam_images{{run="{number}",status="failed"}} 1.0',
        f'xraycam_results_total{{run="{number}",status="done"}} 3.0',
        f'xraycam_chunks{{run="{number}",state="waiting"}} 2.0',
        f'xraycam_leases_lost_total{{run="{number}"}} 1.0',
        'xraycam_workers{queue="explain",state="live"} 1.0',
        'xraycam_workers{queue="train",state="live"} 0.0',
        'xraycam_queue_messages{queue="explain"} 2.0',
        'xraycam_up{server="ledger"} 1.0',
        'xraycam_up{server="broker"} 1.0',
        "xraycam_worker_restarts_total 2.0",
    ):
        assert line in found, "\n".join(found)


@pytest.mark.usefixtures("home")
def test_metrics_answer_while_servers_are_away() -> None:
    away = f"redis://:secret-word@127.0.0.1:{free_port()}/0"
    database = f"postgresql+psycopg://u:secret-word@127.0.0.1:{free_port()}/x"
    settings = load_settings().model_copy(
        update={"broker_url": SecretStr(away), "database_url": SecretStr(database)}
    )
    found = scrape(settings)
    assert 'xraycam_up{server="ledger"} 0.0' in found
    assert 'xraycam_up{server="broker"} 0.0' in found
    assert not any("secret-word" in line for line in found)


def test_watch_shows_workers_failures_and_lost_leases_under_its_bar(ledger: Ledger, run: Run) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    with ProgressDisplay(console, ledger, run) as display:
        display.update()
    shown = stream.getvalue()
    assert "1 worker; failed: 1 truncated; 1 lease expired, chunks re-run" in shown
    assert "4/10" in shown
