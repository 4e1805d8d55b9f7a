"""Figures for Prometheus, on a port of a worker launcher: of the whole fleet, from ledger and broker.

Every launcher tells the same of the fleet, so that one is enough to ask, and none must be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from db.errors import LedgerError
from db.ledger import Ledger
from db.runs import get_run, open_progress
from db.workers import list_workers
from worker.errors import XraycamError
from worker.model.run_drift import drift_of_run
from worker.model.store import store_of
from worker.queue.broker import BrokerUnreachable, queue_length
from worker.queue.messages import QUEUES
from worker.settings import Settings

# A scrape waits ten seconds at most; what is away is told as such rather than waited for.
RETRY_TIMEOUT = 2.0


class FleetCollector(Collector):
    """Looks at ledger and broker whenever it is asked. `restarts`: of this launcher's workers, so far."""

    def __init__(self, settings: Settings, restarts: Callable[[], int]) -> None:
        self._settings = settings
        self._restarts = restarts
        self._ledger = Ledger(settings.database, retry_timeout=RETRY_TIMEOUT)

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("xraycam_up", "Whether ledger and broker answer.", labels=["server"])
        for server, look in (("ledger", self._of_ledger), ("broker", self._of_broker)):
            try:
                yield from look()
                up.add_metric([server], 1)
            except (LedgerError, BrokerUnreachable):
                up.add_metric([server], 0)
        yield up
        restarts = CounterMetricFamily(
            "xraycam_worker_restarts", "Worker processes of this launcher that died and were replaced."
        )
        restarts.add_metric([], self._restarts())
        yield restarts

    def _of_ledger(self) -> list[Metric]:
        images = GaugeMetricFamily(
            "xraycam_images", "Images of the runs with work left, by status.", labels=["run", "status"]
        )
        ended = CounterMetricFamily(
            "xraycam_results", "Images with a result, of the runs with work left.", labels=["run", "status"]
        )
        chunks = GaugeMetricFamily(
            "xraycam_chunks", "Chunks of the runs with work left, by state.", labels=["run", "state"]
        )
        lost = CounterMetricFamily(
            "xraycam_leases_lost", "Leases whose worker died or went silent.", labels=["run"]
        )
        drift = GaugeMetricFamily(
            "xraycam_drift",
            "How far a column of a run's results has moved from that of its version or site: PSI, KS.",
            labels=["run", "column", "reference", "measure"],
        )
        store = store_of(self._settings)
        for number, found in self._ledger.query(open_progress).items():
            for one in drift_of_run(self._ledger, store, self._ledger.query(get_run, number)):
                of = (str(number), one.column, one.reference)
                drift.add_metric([*of, "psi"], one.shift.psi)
                drift.add_metric([*of, "ks"], one.shift.ks)
            run = str(number)
            for status in ("pending", "done", "failed"):
                images.add_metric([run, status], getattr(found, status))
            for status in ("done", "failed"):
                ended.add_metric([run, status], getattr(found, status))
            states = {"leased": found.leased_chunks, "finished": found.finished_chunks}
            states["waiting"] = found.chunks - sum(states.values())
            for state, count in states.items():
                chunks.add_metric([run, state], count)
            lost.add_metric([run], found.expired_leases)
        workers = GaugeMetricFamily(
            "xraycam_workers", "Workers that were heard of within a minute, or were not.",
            labels=["queue", "state"],
        )  # fmt: skip
        live: Counter[tuple[str, str]] = Counter({(queue, "live"): 0 for queue in QUEUES})
        for worker in self._ledger.query(list_workers):
            live[worker.queues, "live" if worker.is_live else "silent"] += 1
        for labels, count in live.items():
            workers.add_metric(list(labels), count)
        return [images, ended, chunks, lost, drift, workers]

    def _of_broker(self) -> list[Metric]:
        waiting = GaugeMetricFamily(
            "xraycam_queue_messages", "Messages that wait in the broker.", labels=["queue"]
        )
        if self._settings.broker is not None:
            for queue in QUEUES:
                waiting.add_metric([queue], queue_length(self._settings.broker, queue))
        return [waiting]


def serve_metrics(settings: Settings, restarts: Callable[[], int], address: str, port: int) -> Any:
    """Answer at http://ADDRESS:PORT/metrics from a thread; returns the server. Raises XraycamError."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(settings, restarts))
    try:
        server, _ = start_http_server(port, address, registry)
    except (OSError, OverflowError) as error:
        cause = getattr(error, "strerror", None) or error
        raise XraycamError(
            f"--metrics-port {port}: {address}:{port} cannot be listened on: {cause}; take another port"
        ) from error
    return server
