"""What an unfinished run waits for, and whether it will go on by itself."""

from __future__ import annotations

from db.runs import OPEN, Progress, get_run
from producer.session import Session
from worker.queue.broker import BrokerUnreachable, queue_length
from worker.queue.names import EXPLAIN_QUEUE


def outlook(session: Session, run_id: int, found: Progress, workers: int) -> str | None:
    """Why a run does not move and how it goes on, in one line; None while it moves. `workers`: those live."""
    if found.is_complete or get_run(session.ledger, run_id).state != OPEN:
        return None
    broker = session.settings.broker
    if broker is None:
        return None if workers else f"nothing works on it: 'xraycam resume {run_id}' goes on with it"
    try:
        messages = queue_length(broker, EXPLAIN_QUEUE)
    except BrokerUnreachable as error:
        return f"{error}; the run goes on by itself once it does"
    waiting = found.chunks - found.finished_chunks - found.leased_chunks
    # Each worker may have one message in hand and one more taken out of the queue.
    lost = messages == 0 and waiting > 2 * workers
    if not workers:
        then = f", then 'xraycam resume {run_id}', since no message waits in the broker" if lost else ""
        return f"no worker is live: start 'xraycam worker'{then}"
    if lost:
        return (
            f"{waiting} chunks wait, but no message in the broker: the workers send them again by themselves "
            f"within a minute, 'xraycam resume {run_id}' at once"
        )
    return None
