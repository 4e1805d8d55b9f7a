"""A broker asked over TLS that does not speak it is told of as such, not as a bare timeout."""

from __future__ import annotations

import pytest

from worker.queue.broker import broker_error


@pytest.mark.parametrize(
    "cause", ["Timeout connecting to server", "[SSL: WRONG_VERSION_NUMBER] wrong version number"]
)
def test_tls_that_is_not_answered_names_the_scheme_to_try(cause: str) -> None:
    said = str(broker_error("rediss://:secret@host:6379/0", OSError(cause)))
    assert "TLS" in said
    assert "redis://" in said
    assert "secret" not in said


def test_timeout_without_tls_does_not_speak_of_it() -> None:
    assert "TLS" not in str(broker_error("redis://host:6379/0", OSError("Timeout connecting to server")))
