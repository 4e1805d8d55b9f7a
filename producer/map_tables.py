"""Rankings of layers and methods, and the randomisation test, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from producer.tables import Column, Table
from worker.counted_words import counted
from worker.map_evaluation.bootstrap import Mean
from worker.map_evaluation.reports import Ranked, Ranking, Sanity
from worker.map_evaluation.similarity import Similarity
from worker.model.doubts import FEW_IMAGES
from worker.model.metadata import ModelMetadata


def ranking_table(ranking: Ranking) -> Table:
    """The most faithful first, with 95% intervals; baseline maps last."""
    is_located = ranking.marked_images > 0
    title = (
        f"model {ranking.model}: where its scores come from, on {ranking.images} images, in score units; "
        "95% intervals"
    )
    columns = [
        Column("layer and method"),
        Column("map", 5, right=True),
        Column("faithfulness", right=True),
        *(Column(name, 4, right=True) for name in ("insertion", "deletion", "ROAD")),
        Column("blank", 1, right=True),
    ]
    if is_located:
        located = (("hit rate", 2), ("share of heat", 2), ("IoU", 3))
        columns += [Column(f"{name}, marked area", number, right=True) for name, number in located]
    table = Table(columns, title=title)
    for row in ranking.pairs:
        table.add_row(*_ranking_cells(row))
    table.add_section()
    for row in ranking.baselines:
        table.add_row(*_ranking_cells(row))
    return table


def ranking_lines(ranking: Ranking, metadata: ModelMetadata) -> Iterator[str]:
    """What follows from it, in sentences."""
    best, best_baseline = ranking.best, max(ranking.baselines, key=_faithfulness)
    yield f"best: {best.name}, {best.faithfulness.faithfulness}; {ranking.seconds:.0f} s"
    if best != ranking.pairs[0]:
        blank = counted(ranking.pairs[0].blank, "image")
        yield f"{ranking.pairs[0].name} is more faithful, but leaves {blank} blank"
    if best.faithfulness.faithfulness.low <= _faithfulness(best_baseline):
        yield (
            f"warning: no better than a {best_baseline.name} as far as {ranking.images} images tell; do not "
            "believe maps of this model"
        )
    default = f"{metadata.default_layer} {metadata.default_method}"
    if default != best.name:
        yield f"the default of version {metadata.version} is {default}: --layer and --method choose others"
    located = [row for row in ranking.pairs if row.localisation is not None]
    if located:
        area = located[0].localisation
        assert area is not None
        yield (
            f"the marked area covers {area.area:.1%} of the picture in "
            f"{counted(ranking.marked_images, 'image')}: chance level"
        )
        if ranking.marked_images < FEW_IMAGES:
            yield f"warning: {counted(ranking.marked_images, 'marked image')} say little of where maps point"


def _ranking_cells(row: Ranked) -> list[str]:
    found = row.faithfulness
    cells = [
        row.name,
        f"{row.resolution[0]} x {row.resolution[1]}",
        _interval(found.faithfulness),
        *(f"{mean.value:.2f}" for mean in (found.insertion, found.deletion, found.road)),
        str(row.blank or ""),
    ]
    if row.localisation is not None:
        located = row.localisation
        cells += [_interval(mean) for mean in (located.hit, located.energy, located.iou)]
    return cells


def _interval(mean: Mean) -> str:
    return f"{mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f})"


def _faithfulness(row: Ranked) -> float:
    return row.faithfulness.faithfulness.value


def sanity_table(found: Sanity) -> Table:
    """Stages from the head down, then what unrelated maps have in common."""
    columns = (
        Column("randomised down to"),
        Column("rank correlation", right=True),
        Column("structural similarity", right=True),
        Column("blank maps", 1, right=True),
    )
    table = Table(
        columns,
        title=f"model {found.model}, {found.layer} {found.method}, {found.images} images: similarity to the "
        "trained model's maps; 95% intervals",
    )
    for stage in found.stages:
        table.add_row(stage.part, *_sanity_cells(stage.similarity), str(stage.blank or ""))
    table.add_section()
    table.add_row("maps of unrelated images", *_sanity_cells(found.unrelated), "")
    return table


def _sanity_cells(found: Similarity) -> list[str]:
    return [f"{m.value:.2f} ({m.low:.2f} to {m.high:.2f})" for m in (found.spearman, found.ssim)]
