"""What a version's record says of the version that its training started from."""

from __future__ import annotations

from typing import Any

from worker.counted_words import counted


def said_of_earlier(record: dict[str, Any] | None) -> str | None:
    """A sentence on a `record` of `worker.train.earlier_training`; None where there is nothing to say."""
    if not record or (record["is_known"] and not record["moved"]):
        return None
    if not record["is_known"]:
        return (
            f"{record['version']}, from which the training started, does not say which images it was trained "
            "on; if validation images are among them, the figures are too good"
        )
    return (
        f"{record['version']}, from which the training started, had learned from "
        f"{counted(record['moved'], 'validation image')}, or others of their patients; these went to the "
        "training part"
    )
