"""The signal that a new model was promoted: from whoever promotes, to each worker's model keeper.

Celery's remote control reaches a worker's main process, which under prefork is not the one that holds the
model; an event that both share carries it on. A signal may be lost: keepers also look by themselves.
"""

from __future__ import annotations

import logging
import multiprocessing
from typing import Any

from celery.worker.control import control_command

from worker.queue.celery_app import create_celery_app
from worker.settings import Settings

log = logging.getLogger(__name__)

RELOAD = "reload_model"

# Made when the main process imports this module, so that the children it forks share it.
_asked = multiprocessing.get_context("fork").Event()


@control_command(name=RELOAD)
def reload_model(_state: Any) -> dict[str, str]:
    """Look for a new current model now."""
    _asked.set()
    return {"ok": "looking for a new model"}


def request_reload() -> None:
    """Have this worker's model keeper look for a new current model."""
    _asked.set()


def wait_for_reload(seconds: float) -> None:
    """Return when asked to look, or after `seconds`."""
    _asked.wait(seconds)
    _asked.clear()


def broadcast_reload(settings: Settings) -> None:
    """Tell all workers that another model is current. A broker that is away is no error: they look too."""
    if settings.broker is None:
        return
    try:
        app = create_celery_app(settings)
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            app.control.broadcast(RELOAD, connection=connection)
    except Exception as error:
        log.warning("workers are not told of the new model, and will find it by themselves: %s", error)
