"""What an unfinished run waits for, and whether it will go on by itself."""

from __future__ import annotations

from db.runs import Progress, Run
from worker.queue.broker import BrokerUnreachable, queue_length
from worker.queue.names import EXPLAIN_QUEUE
from worker.settings import Settings


def outlook(settings: Settings, run: Run, found: Progress, workers: int) -> str | None:
    """Why a run does not move and how it goes on, in one line; None while it moves. `workers`: those live."""
    if found.is_complete:
        return None
    broker = settings.broker
    if broker is None:
        return None if workers else f"nothing works on it: 'xraycam resume {run.id}' goes on with it"
    try:
        messages = queue_length(broker, EXPLAIN_QUEUE)
    except BrokerUnreachable as error:
        return f"{error}; the run goes on by itself once it does"
    waiting = found.chunks - found.finished_chunks - found.leased_chunks
    # Each worker may have one message in hand and one more taken out of the queue.
    lost = messages == 0 and waiting > 2 * workers
    if not workers:
        then = f", then 'xraycam resume {run.id}', since no message waits in the broker" if lost else ""
        return f"no worker is live: start 'xraycam worker'{then}"
    if lost:
        return (
            f"{waiting} chunks wait, but no message in the broker: the workers send them again by themselves "
            f"within a minute, 'xraycam resume {run.id}' at once"
        )
    return None
