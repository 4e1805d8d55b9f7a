"""A result as the pages show it: JSON with short names, without what is null."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from producer.viewer.thumbnails import is_strip
from worker.file_names import printable

_NAMES = {
    "id": "id",
    "status": "status",
    "reason": "reason",
    "class": "class",
    "probability": "probability",
    "probabilities": "probabilities",
    "score": "score",
    "threshold": "threshold",
    "decision": "decision",
    "target_class": "target",
    "logit": "logit",
    "layer": "layer",
    "method": "method",
    "cam_border_fraction": "border",
    "cam_corner_fraction": "corner",
    "cam_mask_fraction": "mask",
    "blank": "blank",
    "model_version": "version",
    "width": "width",
    "height": "height",
    "header": "header",
    "sha256": "sha256",
}
_DIGITS = 5


def shown_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `db.browse` for the pages: `name` and `error` are printable, `odd` a list or absent."""
    shown = {new: _short(row[old]) for old, new in _NAMES.items() if row.get(old) is not None}
    score, threshold = row.get("score"), row.get("threshold")
    if None not in (score, threshold) and shown["score"] == shown["threshold"]:
        shown |= {"score": score, "threshold": threshold}  # which of them is higher is the decision
    shown["name"] = printable(row["path"])
    if row.get("error") is not None:
        shown["error"] = printable(row["error"])
    if row.get("odd") is not None:
        shown["odd"] = [word.strip() for word in row["odd"].split(",") if word.strip()]
    if row.get("status") == "done" and is_strip(row):
        shown["strip"] = True
    if isinstance(row.get("finished_at"), datetime):
        shown["finished"] = row["finished_at"].isoformat(timespec="seconds")
    return shown


def _short(value: Any) -> Any:
    """Numbers in as many digits as anybody reads; a report of 20,000 images is a third smaller."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {str(name): _short(part) for name, part in value.items()}
    return value
