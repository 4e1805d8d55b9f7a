"""Rankings, randomisation tests and comparisons of maps as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from worker.map_evaluation.bootstrap import Mean
from worker.map_evaluation.reports import Ranked, Ranking, Sanity

mpl.use("Agg")


def plot_ranking(ranking: Ranking, file: Path) -> None:
    """Bars with 95% intervals, the most faithful pair on top, baselines in gray at the bottom."""
    rows = [*ranking.pairs, *ranking.baselines]
    is_located = all(row.localisation for row in rows)
    columns = 3 if is_located else 1
    figure = Figure(figsize=(3.2 + 3.4 * columns, 1.6 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    _bars(axes[0], rows, [row.faithfulness.faithfulness for row in rows], "faithfulness (score units)")
    if is_located:
        found = [row.localisation for row in rows if row.localisation is not None]
        _bars(axes[1], rows, [one.hit for one in found], "hottest point in marked area")
        _bars(axes[2], rows, [one.energy for one in found], "share of heat in marked area")
        for axis in axes[1:]:
            axis.axvline(found[0].area, color="black", linestyle=":", linewidth=1)
    names = [f"{row.name}  {row.resolution[0]} x {row.resolution[1]}" for row in rows]
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].invert_yaxis()
    figure.suptitle(
        f"Where the scores of model {ranking.model} come from: {ranking.images} images"
        + (f", {ranking.marked_images} marked" if is_located else "")
    )
    figure.savefig(file, dpi=120)


def _bars(axis: Any, rows: Sequence[Ranked], means: Sequence[Mean], label: str) -> None:
    colours = ["tab:blue" if row.method else "tab:gray" for row in rows]
    values = [mean.value for mean in means]
    errors = [
        [mean.value - mean.low for mean in means],
        [mean.high - mean.value for mean in means],
    ]
    axis.barh(range(len(rows)), values, xerr=errors, color=colours, error_kw={"linewidth": 1})
    axis.set_xlabel(label)
    axis.axvline(0, color="black", linewidth=0.5)


def plot_sanity(sanity: Sanity, file: Path) -> None:
    """Similarity by stage, with intervals, over the level that maps of unrelated images have."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    parts = [stage.part for stage in sanity.stages]
    for axis, name, title in zip(
        figure.subplots(1, 2),
        ("spearman", "ssim"),
        ("rank correlation", "structural similarity"),
        strict=True,
    ):
        means: list[Mean] = [getattr(stage.similarity, name) for stage in sanity.stages]
        level: Mean = getattr(sanity.unrelated, name)
        axis.axhspan(level.low, level.high, color="tab:gray", alpha=0.4, label="maps of unrelated images")
        axis.plot(parts, [mean.value for mean in means], marker=".", label="randomised up to here")
        axis.fill_between(parts, [m.low for m in means], [m.high for m in means], alpha=0.3)
        axis.set_xticks(range(len(parts)), parts, rotation=90)
        axis.set(ylabel=title, ylim=(-1.05 if name == "spearman" else -0.05, 1.05))
        axis.legend()
    outcome = "passed" if sanity.passed else "failed"
    figure.suptitle(
        f"Weight randomisation of {sanity.model}, {sanity.layer} {sanity.method}, {sanity.images} images: "
        f"{outcome}"
    )
    figure.savefig(file, dpi=120)


_GAP = 4
_INK, _GROUND = (255, 255, 255), (0, 0, 0)
LEAST_PANEL = 320  # pixels, the longer side of a panel: narrower, names do not fit

Panels = dict[tuple[str, str], Image.Image]


def comparison(
    title: str, original: Image.Image, layers: Sequence[str], methods: Sequence[str], panels: Panels
) -> Image.Image:
    """RGB: the original on the left of each row of `panels` by (layer, method), all of one size; layers
    above the columns, methods left of the rows, `title` on top."""
    width, height = panel_size(original.size)
    bar, side = 24, 90 if all(len(name) < 12 for name in methods) else 200
    columns = ("original", *layers)
    whole = Image.new(
        "RGB",
        (side + len(columns) * (width + _GAP), 2 * bar + len(methods) * (height + _GAP)),
        _GROUND,
    )
    draw = ImageDraw.Draw(whole)
    _write(draw, title, (8, bar // 2), whole.width - 16, "lm")
    for number, name in enumerate(columns):
        left = side + number * (width + _GAP)
        _write(draw, name, (left + width // 2, bar + bar // 2), width - 8, "mm")
        for row, method in enumerate(methods):
            top = 2 * bar + row * (height + _GAP)
            picture = original if number == 0 else panels[name, method]
            whole.paste(picture.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    for row, method in enumerate(methods):
        _write(draw, method, (8, 2 * bar + row * (height + _GAP) + height // 2), side - 12, "lm")
    return whole


def panel_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the panel of a picture of `size`: its own, but LEAST_PANEL at least."""
    factor = max(1.0, LEAST_PANEL / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _write(draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], width: int, anchor: str) -> None:
    for size in range(16, 7, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(text, font=font) <= width:
            break
    draw.text(place, text, fill=_INK, font=font, anchor=anchor)
