"""What the ledger holds of one explained image, as our DICOM objects tell it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from worker.dicom_results.equipment import MANUFACTURER, NOT_FOR_DIAGNOSIS, software_version
from worker.explain.decision import findings_seen
from worker.score_words import score_and_threshold


@dataclass(frozen=True)
class Result:
    """One row of results; None and empty where the ledger has nothing. `probabilities` by class; `score` and
    `threshold` 0 to 100; `odd`: words, None if not checked; `maxima`: of the heatmaps before scaling."""

    class_name: str
    probability: float | None
    model_version: str
    finished_at: datetime
    probabilities: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    threshold: float | None = None
    decision: str | None = None
    odd: tuple[str, ...] | None = None
    target_class: str = ""
    layer: str = ""
    method: str = ""
    blank: bool = False
    maxima: Mapping[str, float] = field(default_factory=dict)
    findings: Collection[str] | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any], findings: Collection[str] | None = None) -> Result:
        """From a row of `results` by its column names. `findings`: those classes of its run that do not
        exclude each other, None: all."""
        odd = row.get("odd")
        maxima = row.get("heatmap_max") or {}
        return cls(
            class_name=row["class"] or "",
            probability=row["probability"],
            model_version=row["model_version"] or "unknown",
            finished_at=row["finished_at"],
            probabilities=row.get("probabilities") or {},
            score=row.get("score"),
            threshold=row.get("threshold"),
            decision=row.get("decision"),
            odd=None if odd is None else tuple(word for word in odd.split(",") if word),
            target_class=row.get("target_class") or "",
            layer=row.get("layer") or "",
            method=row.get("method") or "",
            blank=bool(row.get("blank")),
            maxima=maxima if isinstance(maxima, Mapping) else {},
            findings=findings,
        )

    @property
    def predicted(self) -> tuple[tuple[str, float | None], ...]:
        """Names and probabilities: of the class, or of all findings at 0.5 or more, the highest first."""
        seen = findings_seen(self.probabilities, self.findings)
        return tuple(seen) if len(seen) > 1 else ((self.class_name, self.probability),)

    @property
    def blank_maps(self) -> tuple[str, ...]:
        """Of several maps those that hold no positive evidence, where others do."""
        names = [name for name, maximum in self.maxima.items() if maximum <= 0]
        return () if self.blank or len(names) == len(self.maxima) else tuple(names)

    def statement(self) -> dict[str, Any]:
        """All that a report says, as plain JSON values: equal statements make equal reports."""
        several = {"findings": [name for name, _ in self.predicted]} if len(self.predicted) > 1 else {}
        blank = {"blank maps": list(self.blank_maps)} if self.blank_maps else {}
        return (
            several
            | blank
            | {
                "class": self.class_name,
                "probability": rounded(self.probability),
                "probabilities": {name: rounded(value) for name, value in self.probabilities.items()},
                "score": rounded(self.score),
                "threshold": rounded(self.threshold),
                "decision": self.decision,
                "odd": None if self.odd is None else list(self.odd),
                "target": self.target_class,
                "layer": self.layer,
                "method": self.method,
                "blank": self.blank,
            }
        )

    def caption(self) -> list[str]:
        """The lines that stand below the picture of a secondary capture; they name nobody."""
        lines = [
            f"{NOT_FOR_DIAGNOSIS.upper()} - research use only; the colours show where the score came from"
        ]
        words = []
        for name, probability in self.predicted:
            words += [name] if probability is None else [f"{name} {probability:.1%}"]
        score, threshold = score_and_threshold(self.score, self.threshold)
        if score:
            words.append(f"score {score} of 100")
        if threshold:
            words.append(f"operating point {threshold}")
        if self.decision is not None:
            words.append(f"decision: {self.decision}")
        lines.append(", ".join(word for word in words if word))
        if self.odd:
            lines.append(f"odd about this image: {', '.join(self.odd)}")
        if self.blank:
            lines.append("blank map: no positive evidence for the class was found")
        elif self.blank_maps:
            lines.append(f"blank maps: {', '.join(self.blank_maps)}")
        lines.append(
            f"{self.method} at {self.layer}, map of {self.target_class}; model {self.model_version}, "
            f"{MANUFACTURER} {software_version()}"
        )
        return lines


def rounded(value: float | None) -> float | None:
    """To six digits: what two databases give back of one float may differ in its last bit."""
    return None if value is None else float(f"{value:.6g}")
