"""What a version's check says of radiographs from elsewhere, of other pictures, and what it costs.

`python -m benchmarks.input_check --radiographs FOLDER --others KIND=FOLDER ... [--only NAMES] [--out FILE]`
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from worker.errors import ImageError
from worker.explain.explainer import Explainer
from worker.images.limits import Limits
from worker.images.preprocess import Pixels, preprocess
from worker.images.reader import read_radiograph
from worker.input_check.check import InputCheck, load_check
from worker.model.metadata import ModelMetadata
from worker.model.network import load_model
from worker.model.store import STARTER
from worker.odd_words import INVERTED, MIRRORED, NOT_A_RADIOGRAPH, TURNED
from worker.train.check_copies import inverted, mirrored, turned
from worker.train.check_features import FeatureReader


def pictures_of(folder: Path, metadata: ModelMetadata) -> list[Pixels]:
    """All pictures below `folder` that decode, as the network sees them."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            found.append(preprocess(read_radiograph(file, Limits()), metadata.preprocessing))
        except ImageError as error:
            print(f"left out: {error}")
    return found


def measure(check: InputCheck, reader: FeatureReader, pictures: list[Pixels], right: str) -> dict[str, Any]:
    """How many were flagged, how many with the right word alone, and all that was said."""
    said = check.words(reader(pictures))
    return {
        "images": len(said),
        "flagged": sum(1 for words in said if words),
        "right": said.count(right),
        "words": dict(Counter(words or "nothing" for words in said).most_common()),
    }


def rates(metadata: ModelMetadata, network: Any, check: InputCheck, rounds: int) -> dict[str, float]:
    """Images a second explained in batches of 16 without and with the check, medians, in turns."""
    batch = np.random.default_rng(0).integers(0, 256, (16, *[metadata.preprocessing.size] * 2), np.uint8)
    explainers = {"without": Explainer(metadata, network), "with": Explainer(metadata, network, check=check)}
    seconds: dict[str, list[float]] = {name: [] for name in explainers}
    for one in explainers.values():
        one.explain(batch)
    for _ in range(rounds):
        for name, one in explainers.items():
            started = time.process_time()
            one.explain(batch)
            seconds[name].append(time.process_time() - started)
    return {name: round(16 / float(np.median(taken)), 2) for name, taken in seconds.items()}


def main() -> None:
    """Measure and print, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=STARTER)
    parser.add_argument("--radiographs", type=Path, action="append", default=[])
    parser.add_argument("--others", action="append", default=[], metavar="KIND=FOLDER")
    parser.add_argument("--rounds", type=int, default=0, help="of measuring the cost")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    metadata, network = load_model(given.model)
    check = load_check(given.model, metadata)
    if check is None:
        parser.error(f"{given.model} has no check")
    reader = FeatureReader(network, metadata.preprocessing, check.layer)
    found: dict[str, Any] = {}
    for folder in given.radiographs:
        own = pictures_of(folder, metadata)
        copies = {"": own, INVERTED: [inverted(one) for one in own], MIRRORED: [mirrored(one) for one in own]}
        copies |= {w: [turned(one, n) for one in own] for n, w in enumerate(TURNED, start=1)}
        for word, pictures in copies.items():
            name = f"{folder.name}, {word or 'as they are'}"
            found[name] = measure(check, reader, pictures, word)
    for kind, _, folder in (text.partition("=") for text in given.others):
        found[kind] = measure(check, reader, pictures_of(Path(folder), metadata), NOT_A_RADIOGRAPH)
    text = json.dumps(found, indent=1)
    print(text)
    if given.rounds:
        print(
            json.dumps({"images a second of processor time": rates(metadata, network, check, given.rounds)})
        )
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
