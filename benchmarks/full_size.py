"""What a radiograph of 2048 x 2048 pixels costs: as before, at full size, and at the default --overlay-side.

    python -m benchmarks.full_size

Files are the sample radiographs, enlarged, with the grain of a detector, as 8-bit PNG. The three ways take
turns within a round; figures are medians of processor time of one thread, ms an image, network and writing
left out. "Before" is written out below: Pillow's PNG decoder, gray made RGB, heat laid on in four steps.
The usual script (see `throughput_stages`) does one image, network and all, and is set beside ours with the
network.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import hashlib
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from benchmarks.throughput_stages import _reference_image
from producer.sample_radiographs import SAMPLES
from worker.explain.blending import lookup_table
from worker.explain.caption import MapFacts, OverlayFacts, band
from worker.explain.explainer import Explainer
from worker.explain.names import FULL, USUAL_SIDE
from worker.explain.options import ExplainOptions
from worker.explain.overlay import draw, encode, reduced
from worker.images.depth import require_contrast
from worker.images.headers import png_header
from worker.images.limits import Limits
from worker.images.preprocess import preprocess
from worker.images.reader import Radiograph, read_radiograph
from worker.model.network import load_model
from worker.model.store import STARTER

_FADE, _ROWS, _KEPT_BLOCKS = 0.4, 1024, 16


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    metadata, network = load_model(STARTER)
    explainer = Explainer(metadata, network)
    with tempfile.TemporaryDirectory(prefix="xraycam-full-size-") as folder:
        files = draw_files(Path(folder), given.side, given.images)
        pixels = np.stack(
            [preprocess(read_radiograph(file, Limits()), metadata.preprocessing) for file in files]
        )
        found = explainer.explain(pixels)
        (panel,) = explainer.panels
        ways: dict[str, Callable[[Path], Radiograph]] = {
            "before": read_before,
            FULL: lambda file: read_radiograph(file, Limits()),
            str(USUAL_SIDE): lambda file: read_radiograph(file, Limits()),
        }
        spent: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
        network_spent = []
        for _ in range(given.rounds):
            for number, file in enumerate(files):
                heat = found.heatmaps[panel.name][number]
                facts = OverlayFacts(
                    "Tuberculosis",
                    0.9,
                    "Tuberculosis",
                    metadata.version,
                    (MapFacts(panel.label, 0.02, 0.02),),
                )
                for name, read in ways.items():
                    Image.core.set_blocks_max(0 if name == "before" else _KEPT_BLOCKS)
                    spent[name].append(_timed(name, file, read, heat, metadata.preprocessing, facts))
            started = time.process_time()
            explainer.explain(pixels)
            network_spent.append(1000 * (time.process_time() - started) / len(files))
        started = time.process_time()
        _reference_image(files[0], Path(folder) / "reference.jpg", network, metadata.preprocessing.size)
        usual = 1000 * (time.process_time() - started)
    _print(spent, statistics.median(network_spent), usual, given.side)


def _print(spent: dict[str, list[tuple[float, ...]]], network: float, usual: float, side: int) -> None:
    medians = {
        name: [statistics.median(row[stage] for row in rows) for stage in range(3)]
        for name, rows in spent.items()
    }
    # Of sums over one image, so that what else the machine did meets both.
    ratios = {
        name: statistics.median(
            sum(before) / sum(row) for before, row in zip(spent["before"], rows, strict=True)
        )
        for name, rows in spent.items()
    }
    print(f"{side} x {side} pixels, PNG, ms of processor time an image\n")
    print(
        "| overlays | read | draw | encode | sum | before by this | usual script by this, with the network |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, stages in medians.items():
        whole = sum(stages)
        figures = " | ".join(f"{value:.1f}" for value in (*stages, whole))
        print(f"| {name} | {figures} | {ratios[name]:.2f} | {usual / (whole + network):.0f} |")
    print(f"\nthe network, in a batch: {network:.1f} ms; the usual script: {usual:.0f} ms")


def _timed(
    name: str,
    file: Path,
    read: Callable[[Path], Radiograph],
    heat: Any,
    preprocessing: Any,
    facts: OverlayFacts,
) -> tuple[float, ...]:
    """Milliseconds of reading, drawing, encoding."""
    options = ExplainOptions(overlay_side=USUAL_SIDE if name == str(USUAL_SIDE) else FULL)
    marks = [time.thread_time()]
    radiograph = read(file)
    preprocess(radiograph, preprocessing)
    radiograph = reduced(radiograph, options.overlay_side)
    marks.append(time.thread_time())
    if name == "before":
        picture = draw_before(radiograph, heat, preprocessing, facts)
    else:
        picture = draw(radiograph, [(facts.maps[0].label, heat)], preprocessing, options, facts)
    marks.append(time.thread_time())
    encode(picture, "jpeg", facts)
    marks.append(time.thread_time())
    return tuple(1000 * (end - start) for start, end in itertools.pairwise(marks))


def draw_files(folder: Path, side: int, count: int) -> list[Path]:
    """Sample radiographs of `side` pixels. The grain makes the files as large as a detector's: some 0.35
    bytes a pixel."""
    random = np.random.default_rng(1)
    files = []
    for number, sample in enumerate(sorted(SAMPLES.rglob("*.png"))[:count]):
        with Image.open(sample) as opened:
            large = opened.convert("L").resize((side, side), Image.Resampling.BICUBIC)
        grained = np.asarray(large) + random.normal(0, 0.6, (side, side))
        files.append(folder / f"{number}.png")
        Image.fromarray(grained.clip(0, 255).round().astype(np.uint8)).save(files[-1])
    return files


def read_before(file: Path) -> Radiograph:
    """As release 0.1.0 began: the file's checksums, Pillow's decoder, the check of contrast."""
    content = file.read_bytes()
    header = png_header(content)
    with Image.open(io.BytesIO(header.content), formats=["PNG"]) as opened:
        opened.load()
        pixels = opened.copy()
    require_contrast(pixels, file.name)
    return Radiograph(pixels, pixels.width, pixels.height, hashlib.sha256(content).hexdigest())


def draw_before(radiograph: Radiograph, heat: Any, preprocessing: Any, facts: OverlayFacts) -> Image.Image:
    """The overlay of one map in full size: gray into RGB, then in bands of rows heat to shares, to colours
    through a palette, and these pasted by the shares."""
    width, height = radiograph.width, radiograph.height
    table = lookup_table("inferno")
    caption = band(facts, (width, height), table)
    result = Image.new("RGB", (caption.width, height + caption.height))
    result.paste(caption, (0, height))
    result.paste(radiograph.pixels, (0, 0))
    left, upper, right, lower = (round(edge) for edge in preprocessing.box(width, height))
    strength = facts.strengths()[facts.maps[0].label]
    values = np.minimum(heat.astype(np.float16).astype(np.float32) * np.float32(strength), np.float32(1))
    levels = Image.fromarray((values * 255 + np.float32(0.5)).astype(np.uint8))
    heat_levels = levels.resize((right - left, lower - upper), Image.Resampling.BILINEAR)
    shares = [round(0.5 * level) for level in range(256)]
    for top in range(0, heat_levels.height, _ROWS):
        rows = heat_levels.crop((0, top, heat_levels.width, min(top + _ROWS, heat_levels.height)))
        share = ImageChops.multiply(
            rows.point(shares), _fading_before(rows.size, top, heat_levels.height, left, upper)
        )
        rows.putpalette(table.tobytes())
        result.paste(rows.convert("RGB"), (left, upper + top), share)
    return result


_FADINGS: dict[Any, Image.Image] = {}


def _fading_before(size: tuple[int, int], top: int, height: int, left: int, upper: int) -> Image.Image:
    key = (size, top, height, left, upper)
    if key not in _FADINGS:

        def rising(length: int, over: int) -> Any:
            distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + np.float32(0.5)
            return np.minimum(1, distance / np.float32(max(over, 1e-3)))

        rows = rising(height, round(_FADE * upper))[top : top + size[1]]
        columns = rising(size[0], round(_FADE * left))
        _FADINGS[key] = Image.fromarray(np.rint(255 * rows[:, np.newaxis] * columns).astype(np.uint8))
    return _FADINGS[key]


if __name__ == "__main__":
    main()
