"""A model of findings that do not exclude each other: trained from a table, measured, and run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.installation import Installation


def write_pictures(folder: Path, count: int, seed: int = 1) -> list[tuple[str, str, str]]:
    """Pictures with a bright disc, a bar, both or neither: (path, Disc, Bar), with 1, 0 and unknown."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :96]
    folder.mkdir(parents=True)
    found = []
    for number in range(count):
        pixels = random.normal(60, 10, (96, 96))
        disc, bar = number % 2 == 0, number % 4 >= 2
        if disc:
            pixels[(rows - 30) ** 2 + (columns - random.uniform(25, 70)) ** 2 < 15**2] += 140
        if bar:
            pixels[70:82, 10:86] += 140
        name = f"image-{number:03}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        said = [str(int(disc)), str(int(bar))]
        if number % 9 == 8:
            said[number % 2] = ""
        found.append((name, *said))
    return found


def write_table(file: Path, rows: list[tuple[str, ...]]) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "Disc", "Bar"), *rows])
    return file


@pytest.mark.slow
def test_findings_are_trained_measured_and_run(
    alone: Installation, recipe_file: Path, tmp_path: Path
) -> None:
    rows: list[tuple[str, ...]] = [*write_pictures(tmp_path / "pictures", 64), ("gone.png", "1", "0")]
    table = write_table(tmp_path / "labels.csv", rows)
    trained = alone.xraycam(
        "train", table, "--images", tmp_path / "pictures", "--recipe", recipe_file, "--init-weights", "none",
        "--set", "stages.0.epochs=1", "--positive", "Bar", "--version", "shapes", "--promote", "always",
        "--wait", "--gpus", "none", seconds=600,
    )  # fmt: skip
    folder = next(file.parent for file in (alone.home / "models").rglob("model.json"))
    metadata = json.loads((folder / "model.json").read_text())
    assert metadata["output"] == "sigmoid"
    assert metadata["classes"] == ["Disc", "Bar"]
    validation = metadata["training"]["validation"]
    assert set(validation["by_class"]) == {"Disc", "Bar"}
    assert validation["confusion"] == []
    assert metadata["training"]["data"]["skipped_by_reason"] == {"missing": 1}
    assert len(metadata["operating_points"]) == 3
    card = (folder / "MODEL_CARD.md").read_text()
    assert "which do not exclude each other" in card
    # Of 64 pictures a tenth is measured on: too few of each to be sure of anything.
    assert "warning: fewer than 20 images with Disc (" in trained.stdout
    assert "- On the validation images: fewer than 20 images with Disc (" in card

    pictures, figures = tmp_path / "other", tmp_path / "figures"
    other = write_table(tmp_path / "other.csv", [*write_pictures(pictures, 24, seed=2)])
    said = alone.xraycam("evaluate", other, "--images", pictures, "--output", figures, seconds=300)
    assert "Disc" in said.stdout
    measured = json.loads((figures / "metrics.json").read_text())["figures"]
    assert measured["by_class"]["Bar"]["unknown"] + measured["by_class"]["Disc"]["unknown"] == 2
    assert not (figures / "confusion.png").exists()

    calibrated = alone.xraycam("calibrate", other, "--images", pictures, seconds=300)
    assert "sensitivity" in calibrated.stdout

    output = tmp_path / "overlays"
    run = alone.xraycam("run", pictures, "--output", output, "--target", "all", "--gpus", "none", seconds=300)
    lines = alone.xraycam("results", "--format", "jsonl").stdout.splitlines()
    assert len(lines) == 24
    for line in lines:
        row = json.loads(line)
        chances = row["probabilities"]
        assert set(chances) == {"Disc", "Bar"}
        best = max(chances, key=chances.get)
        if chances[best] >= 0.5:
            assert (row["class"], row["probability"]) == (best, chances[best])
        else:
            assert (row["class"], row["probability"]) == ("no finding", None)
        assert row["score"] == pytest.approx(100 * chances["Bar"], abs=1e-3)
        assert row["target_class"] == "Disc,Bar"
    rows_read = [json.loads(line) for line in lines]
    for name in ("Disc", "Bar"):
        having = sum(row["probabilities"][name] >= 0.5 for row in rows_read)
        assert f"{name}, at 0.5 or more {having}" in " ".join(run.stdout.replace("│", " ").split())
        found = alone.xraycam("results", "--class", name, "--format", "jsonl").stdout.splitlines()
        assert len(found) == having
    least = ("results", "--class", "Disc", "--min-probability", "0.01", "--format", "jsonl")
    expected = sum(row["probabilities"]["Disc"] >= 0.01 for row in rows_read)
    assert len(alone.xraycam(*least).stdout.splitlines()) == expected
