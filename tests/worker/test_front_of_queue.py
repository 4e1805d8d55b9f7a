"""What is sent again is delivered before what waits."""

from __future__ import annotations

import pytest

from tests.support.servers import Valkey, free_port
from worker.queue.broker import BrokerUnreachable, move_to_front
from worker.queue.messages import EXPLAIN_QUEUE


def test_messages_sent_last_are_delivered_first(valkey: Valkey) -> None:
    client = valkey.client()
    for number in range(6):
        client.lpush(EXPLAIN_QUEUE, number)  # as Celery sends

    move_to_front(valkey.url, EXPLAIN_QUEUE, 2)

    delivered = [int(client.rpop(EXPLAIN_QUEUE)) for _ in range(6)]
    assert set(delivered[:2]) == {4, 5}
    assert delivered[2:] == [0, 1, 2, 3]


def test_nothing_is_made_where_nothing_waits(valkey: Valkey) -> None:
    move_to_front(valkey.url, EXPLAIN_QUEUE, 3)
    assert valkey.client().llen(EXPLAIN_QUEUE) == 0


def test_a_broker_that_is_away_is_named() -> None:
    with pytest.raises(BrokerUnreachable, match="does not answer"):
        move_to_front(f"redis://127.0.0.1:{free_port()}/0", EXPLAIN_QUEUE, 1)
