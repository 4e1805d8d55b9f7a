"""The radiologist's marks beside the Shenzhen set as a table of labels, a column for each type of finding.

    python -m benchmarks.finding_labels ../shared/data/shenzhen findings.csv
    xraycam train findings.csv --images ../shared/data/shenzhen --wait

Types that fewer images have than `--at-least` get no column. An image of the class Normal has none of the
findings; of one that nobody marked, or whose marks are all called Other or Unknown, none is known.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

UNNAMED = ("Other", "Unknown")


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path, help="a folder with Normal, Tuberculosis and lesions_512.json")
    parser.add_argument("table", type=Path, help="the CSV file to write")
    parser.add_argument("--at-least", type=int, default=24, help="images with a type of finding")
    given = parser.parse_args()
    marks = json.loads((given.dataset / "lesions_512.json").read_text(encoding="utf-8"))
    files = sorted(given.dataset.glob("*/*.png"))
    rows = finding_rows(marks, [(file.parent.name, file.name) for file in files], given.at_least)
    with given.table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    print(f"{len(files)} images, {len(rows[0]) - 1} findings: {given.table}")


def finding_rows(
    marks: dict[str, dict[str, list[dict[str, list[str]]]]], files: list[tuple[str, str]], at_least: int
) -> list[list[str]]:
    """Header and a row for each of `files` (class, name), the most frequent finding first."""
    types = {name: {t for region in one["regions"] for t in region["labels"]} for name, one in marks.items()}
    counts = Counter(t for found in types.values() for t in found)
    frequent = sorted(counts, key=lambda t: (-counts[t], t))
    kept = [t for t in frequent if counts[t] >= at_least and t not in UNNAMED]
    rows = [["path", *(_named(t) for t in kept)]]
    for of_class, name in files:
        found = types.get(name, set())
        if of_class == "Normal":
            cells = ["0"] * len(kept)
        elif not found - set(UNNAMED):
            cells = [""] * len(kept)
        else:
            cells = [str(int(t in found)) for t in kept]
        rows.append([f"{of_class}/{name}", *cells])
    return rows


def _named(finding: str) -> str:
    """`Severe_Infiltrate_(Consolidation)`: Consolidation; of others what is in brackets is left out."""
    if finding.endswith("(Consolidation)"):
        return "Consolidation"
    return finding.split("_(")[0].replace("_", " ")


if __name__ == "__main__":
    main()
