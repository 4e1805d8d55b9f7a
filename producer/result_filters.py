"""Filters of `xraycam results` that no image can meet together: refused, where an empty table would look like
an answer."""

from __future__ import annotations

from typing import Any

import click

_OF_DONE = {"class_name": "--class", "min_probability": "--min-probability", "min_score": "--min-score"}


def check_filters(wanted: dict[str, Any]) -> None:
    """Raises UsageError for two filters that exclude each other. `wanted`: by their names in `Filter`."""
    given = [option for name, option in _OF_DONE.items() if wanted.get(name) is not None]
    status, has_reason = wanted.get("status"), wanted.get("reason") is not None
    if has_reason and status not in (None, "failed"):
        raise click.UsageError(f"--reason goes with no --status {status}: only failed images have a reason.")
    if given and status not in (None, "done"):
        raise click.UsageError(
            f"{given[0]} goes with no --status {status}: only images that are done have a class, a "
            "probability and a score."
        )
    if given and has_reason:
        raise click.UsageError(
            f"{given[0]} goes with no --reason: images with a reason have failed, and have no class, "
            "probability or score."
        )
