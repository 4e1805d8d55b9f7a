"""The Celery tasks: thin, so that the process that only supervises stays free of TensorFlow."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import Any

from celery import shared_task
from celery.signals import worker_process_init

import worker.queue.reload  # noqa: F401 - registers the control command, and must be imported before the fork
from db.errors import LedgerError
from db.leases import mark_published
from db.ledger import Ledger
from db.workers import update_worker
from worker.errors import XraycamError
from worker.logs import log_context, worker_name
from worker.queue.messages import EXPLAIN_CHUNK, TRAIN, TRAIN_QUEUE
from worker.queue.startup import WorkerBroken, child_is_ready, child_starts, end_worker
from worker.settings import load_settings

log = logging.getLogger(__name__)

# Pause before a chunk is tried again whose model, ledger or folder cannot be used now. It is slept
# rather than sent along as a time (`countdown`): a worker that cannot work takes no more messages meanwhile,
# and the clocks of the machines may differ.
RETRY_DELAY = 5.0

# A training has no limit of its own; None would mean that of the chunks.
TRAINING_SECONDS = 30 * 24 * 3600


@worker_process_init.connect
def load_model_in_child(**_: Any) -> None:
    """Load the model where it is used, in the prefork child, before the first chunk.

    A child that cannot even import what it needs ends its worker; the launcher says why.
    """
    if not child_starts():
        log.error("the process that loads the model died each time before it was ready")
        end_worker()
        return
    if os.environ.get("XRAYCAM_WORKER_QUEUE") == TRAIN_QUEUE:
        child_is_ready()
        return  # a trainer makes its model, and wants all the memory for that
    try:
        from worker.tensorflow_import import import_tensorflow_when_used

        import_tensorflow_when_used()
        from worker.serve.context import station

        station().models.start()
        station().pipeline.wait_until_ready()
    except (XraycamError, LedgerError) as error:
        # The worker stays up: each chunk tries again, and says what is wrong.
        log.error("not ready yet: %s", error)
    except Exception as error:
        log.exception("this worker cannot start")
        _report_fault(error)
        end_worker()
        return
    child_is_ready()


@shared_task(name=EXPLAIN_CHUNK, bind=True, max_retries=None)
def explain_chunk(task: Any, run: int, chunk: int) -> None:
    """Explain one chunk of a run. A message says no more than which rows: the rest is in the ledger."""
    with log_context(run=run, chunk=chunk):
        _explain(task, run, chunk)


def _explain(task: Any, run: int, chunk: int) -> None:
    readable = {"argsrepr": task.request.argsrepr, "kwargsrepr": task.request.kwargsrepr}
    try:
        try:
            from worker.serve.chunk import explain_chunk as explain
            from worker.serve.context import station

            worker_context = station()
        except (XraycamError, LedgerError):
            raise
        except Exception as error:
            raise WorkerBroken(_line(error)) from error
        refusal = explain(worker_context, run, chunk)
    except (XraycamError, LedgerError) as error:
        log.error("run %d chunk %d waits: %s", run, chunk, error)
        _touch_published_at(run, chunk)
        time.sleep(RETRY_DELAY)
        raise task.retry(countdown=0, exc=error, **readable) from error
    except WorkerBroken as error:
        log.exception("run %d chunk %d: this worker cannot work", run, chunk)
        _report_fault(error)
        end_worker()
        raise task.retry(countdown=0, exc=error, **readable) from error
    except Exception as error:
        # A fault of ours. Tried again, as after a worker's death: the attempts in the ledger end it.
        log.exception("run %d chunk %d failed", run, chunk)
        time.sleep(1.0)
        raise task.retry(countdown=0, exc=error, **readable) from error
    # A message for a chunk that another worker holds is one too many: if that worker dies, the reapers
    # send another.
    if refusal is not None:
        log.info("process %d: run %d chunk %d is %s", os.getpid(), run, chunk, refusal.value)


@shared_task(name=TRAIN, acks_late=False, time_limit=TRAINING_SECONDS)
def train(training: int) -> None:
    """Train, measure, publish. Acknowledged before it starts: it may outlast the visibility timeout."""
    from worker.train.task import run_training

    settings = load_settings()
    run_training(settings, Ledger(settings.database), worker_name(), training)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _report_fault(error: BaseException) -> None:
    """Show what keeps this worker from working to whoever looks at the ledger."""
    text = str(error) if isinstance(error, WorkerBroken) else _line(error)
    with suppress(Exception):
        Ledger(load_settings().database, retry_timeout=1.0).write(
            update_worker, worker_name(), last_error=text
        )


def _touch_published_at(run: int, chunk: int) -> None:
    """Keep the reapers from taking a message for lost that waits in this worker."""
    from worker.serve.context import station

    with suppress(XraycamError, LedgerError):
        station().ledger.write(mark_published, run, [chunk])
