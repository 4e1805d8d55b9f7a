"""The task queue: how Celery is set up."""

from __future__ import annotations

import ssl
from typing import Any

from celery import Celery

from worker.environment import ignore_celery_variables
from worker.queue.messages import EXPLAIN_QUEUE
from worker.settings import Settings

# Longer than any chunk may take (TASK_SECONDS ends it), else a running chunk would be sent again.
VISIBILITY_SECONDS = 3600
TASK_SECONDS = 1800


def create_celery_app(settings: Settings) -> Celery:
    """The Celery app for these settings.

    What is set here follows from what was measured of Celery over Redis; ARCHITECTURE.md says why.
    """
    ignore_celery_variables()
    app = Celery("xraycam", broker=settings.broker, include=["worker.tasks"])
    app.conf.update(configuration())
    if settings.broker is not None and settings.broker.startswith("rediss:"):
        # Kombu's default is to trust whoever answers.
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return app


def configuration() -> dict[str, Any]:
    """The Celery configuration, apart from the broker's address."""
    return {
        # The ledger is the result; JSON is the only thing that is ever decoded.
        "result_backend": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": EXPLAIN_QUEUE,
        # A message is acknowledged once the ledger has the chunk's results. Re-runs are bounded by the
        # attempts counted in the ledger, not by Celery.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "worker_prefetch_multiplier": 1,
        "task_time_limit": TASK_SECONDS,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "health_check_interval": 30,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # One prefork child per worker: it alone holds the model. Loading takes longer than Celery's
        # patience of 4 s with a new child, after which it would replace children for ever.
        "worker_pool": "prefork",
        "worker_concurrency": 1,
        "worker_proc_alive_timeout": 300.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_hijack_root_logger": True,
        "task_store_errors_even_if_ignored": False,
    }
