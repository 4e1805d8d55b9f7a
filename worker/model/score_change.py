"""What is lost where a version with scores of one class gives way to one with none, or with others."""

from __future__ import annotations

from worker.model.metadata import ModelMetadata


def score_change(before: ModelMetadata, after: ModelMetadata) -> str | None:
    """A sentence where scores of `before` are not those of `after`; None where nothing is lost by it."""
    was, is_ = before.positive_class, after.positive_class
    if was is None or was == is_:
        return None
    has = "has none" if is_ is None else f"has scores of {is_}"
    return (
        f"{before.version} has scores of {was}, {after.version} {has} (train or import with --positive {was})"
    )
