"""Marks of a radiologist as a table of labels: there, not there, and not known."""

from __future__ import annotations

from benchmarks.finding_labels import finding_rows


def marked(*types: str) -> dict[str, list[dict[str, list[str]]]]:
    return {"regions": [{"labels": [one]} for one in types]}


def test_what_is_marked_is_there_and_what_nobody_looked_at_is_not_known() -> None:
    marks = {
        "a.png": marked("Cavity", "Cavity", "Severe_Infiltrate_(Consolidation)"),
        "b.png": marked("Severe_Infiltrate_(Consolidation)", "Other"),
        "c.png": marked("Rare"),
        "d.png": marked("Unknown"),
        "e.png": marked(),
        "f.png": marked("Cavity"),
    }
    files = [("Normal", "n.png"), *(("Tuberculosis", f"{name}.png") for name in "abcdeg")]
    header, *rows = finding_rows(marks, files, at_least=2)
    assert header == ["path", "Cavity", "Consolidation"]
    assert {row[0].rpartition("/")[2]: row[1:] for row in rows} == {
        "n.png": ["0", "0"],
        "a.png": ["1", "1"],
        "b.png": ["0", "1"],
        "c.png": ["0", "0"],  # looked at, and neither of the two was found
        "d.png": ["", ""],
        "e.png": ["", ""],
        "g.png": ["", ""],
    }
