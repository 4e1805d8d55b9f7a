"""`xraycam results` and `recolour`: the predictions of a run, and its overlays in other colours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from producer.places import LocalPath
from worker.explain.names import COLORMAPS
from worker.processors import usable_processors

if TYPE_CHECKING:
    from concurrent.futures import Future

    from db.ledger import Ledger
    from db.results import Filter
    from db.runs import Run
    from producer.session import Session
    from worker.explain.caption import OverlayFacts
    from worker.explain.options import ExplainOptions
    from worker.settings import Settings

TABLE_ROWS = 50


@click.command("results")
@click.argument("run", type=int, required=False)
@click.option(
    "--class", "class_name", help="Only images predicted as this class, or with this finding at 0.5 or more."
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    help="Minimum probability of the predicted class, or of the finding that --class names.",
)
@click.option(
    "--min-score", type=click.FloatRange(0, 100), help="At least this score, of the model's positive class."
)
@click.option(
    "--status", type=click.Choice(["done", "failed", "pending", "cancelled"]), help="Of this status."
)
@click.option("--reason", help="Failed for this reason, such as 'truncated'.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "csv", "json", "jsonl", "parquet"]),
    default="table",
    show_default=True,
    help="How to write them.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10**9),
    help=f"At most so many rows; a table has {TABLE_ROWS} if not told.",
)
@click.option(
    "--sort",
    metavar="COLUMN",
    help="Sort by this column, such as score; -score: highest first. Without it by path, chosen ones in the "
    "order in which they were found.",
)
@click.option(
    "--columns",
    metavar="A,B,...",
    help="Only these columns, in this order; probabilities.CLASS is the probability of one class.",
)
@click.option("--output", type=LocalPath(path_type=Path, dir_okay=False), help="File to write to.")
@click.option(
    "--per",
    type=click.Choice(["image", "study", "patient"]),
    default="image",
    show_default=True,
    help="A row for each image, or for each study or patient of DICOM files: with --class, the highest "
    "probability of that class.",
)
def results_command(
    run: int | None,
    output_format: str,
    limit: int | None,
    columns: str | None,
    output: Path | None,
    per: str,
    **wanted: Any,
) -> None:
    """Print the predictions of RUN, or of the latest run.

    \b
    Examples:
      xraycam results --class Tuberculosis --min-probability 0.9
      xraycam results --sort -score --limit 20 --columns path,score,odd
      xraycam results 3 --status failed --format csv --output failed.csv
    """
    import sys

    from db.results import COLUMNS, Filter, count_predictions
    from producer import formats
    from producer.result_filters import check_filters
    from producer.result_notes import gone_note, unfinished_note, versions_note
    from producer.run_findings import findings_if_known, findings_of
    from producer.scores_asked import check_scores
    from producer.session import ensure_output_file, open_session
    from worker.counted_words import counted

    session = open_session()
    chosen_run = session.run(run)
    if per != "image":
        _write_per(session, chosen_run, per, output_format, limit, output, wanted | {"columns": columns})
        return
    check_filters(wanted)
    _check_sort(wanted["sort"])
    names = None if columns is None else _columns(session, chosen_run, columns)
    if output_format == "table" and limit is None:
        limit = TABLE_ROWS
    is_finding = wanted["class_name"] is not None and wanted["class_name"] in findings_of(session, chosen_run)
    chosen = Filter(run=chosen_run.id, limit=limit, is_finding=is_finding, **wanted)
    _check_known(session, chosen)
    check_scores(session, chosen_run, chosen)
    output = None if output is None else ensure_output_file(output)
    notes = [gone_note(session, chosen_run), versions_note(session, chosen_run)]
    if chosen.status not in ("pending", "cancelled"):
        notes.append(unfinished_note(session, chosen_run))
    for note in filter(None, notes):
        session.tell(note)
    if output_format == "table" and output is None:
        from producer.agreement import agreement_lines
        from producer.attribution_report import attribution_report

        findings = partial(findings_if_known, session.ledger, session.settings, chosen_run)
        rows = formats.print_table(session.ledger, chosen, chosen_run, session.out, names, findings)
        for line in (*attribution_report(session, chosen_run), *agreement_lines(session, chosen_run)):
            session.say(line)
        if rows == limit and (total := session.ledger.query(count_predictions, chosen)) > rows:
            session.tell(f"{rows} of {counted(total, 'image')}; --limit gives more")
    elif output_format == "parquet":
        if output is None and sys.stdout.isatty():
            raise click.UsageError("Parquet is not text: give --output FILE, or redirect standard output.")
        with _binary(output) as stream:
            formats.write_parquet(session.ledger, chosen, stream, names or COLUMNS)
    else:
        write = {"csv": formats.write_csv, "json": formats.write_json, "jsonl": formats.write_jsonl}.get(
            output_format
        )
        if write is None:
            raise click.UsageError(
                "A table goes to the screen: choose csv, json, jsonl or parquet for a file."
            )
        if output is None:
            write(session.ledger, chosen, sys.stdout, names or COLUMNS)
        else:
            with output.open("w", encoding="utf-8", newline="") as text:
                write(session.ledger, chosen, text, names or COLUMNS)


def _check_sort(sort: str | None) -> None:
    from db.results import SORTABLE

    if sort is not None and sort.removeprefix("-") not in SORTABLE:
        raise click.UsageError(_unknown("--sort", sort.removeprefix("-"), SORTABLE))


def _columns(session: Session, run: Run, given: str) -> list[str]:
    """The names in `--columns`. Raises UsageError for one that there is not."""
    from db.results import COLUMNS
    from producer.formats import OF_CLASS

    names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    if not names:
        raise click.UsageError("--columns needs the names of columns, separated by commas.")
    of_classes = [OF_CLASS + name for name in _classes(session, run)]
    for name in names:
        if name not in COLUMNS and name not in of_classes:
            raise click.UsageError(_unknown("--columns", name, [*COLUMNS, *of_classes]))
    return names


def _unknown(option: str, name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f"{option}: there is no column {name!r}; " + (
        f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    )


def _write_per(
    session: Session,
    run: Run,
    per: str,
    output_format: str,
    limit: int | None,
    output: Path | None,
    wanted: dict[str, Any],
) -> None:
    import sys

    from producer.grouped_results import write_groups
    from producer.session import ensure_output_file
    from worker.errors import XraycamError

    class_name = wanted.pop("class_name")
    if any(value is not None for value in wanted.values()):
        raise click.UsageError(f"--per {per} goes with --class, --format, --limit and --output alone.")
    if class_name is not None:
        known = _classes(session, run)
        if class_name not in known:
            raise XraycamError(
                f"run {run.id} has no class {class_name}; it has {', '.join(known) or 'none yet'}"
            )
    if output is None:
        write_groups(session, run, per, class_name, output_format, sys.stdout, limit)
    elif output_format == "table":
        raise click.UsageError("A table goes to the screen: choose csv, json or jsonl for a file.")
    else:
        with ensure_output_file(output).open("w", encoding="utf-8", newline="") as text:
            write_groups(session, run, per, class_name, output_format, text, limit)


def _classes(session: Session, run: Run) -> list[str]:
    """The classes of the version that explained the first image that is done."""
    from db.results import Filter, read_predictions

    first = next(read_predictions(session.ledger, Filter(run=run.id, status="done", limit=1)), None)
    return sorted((first or {}).get("probabilities") or {})


def _binary(output: Path | None) -> IO[bytes]:
    return click.open_file("-" if output is None else str(output), "wb")


def _has_any(session: Session, chosen: Filter) -> bool:
    """Whether there is one at all: quick, where counting all of a long run is not."""
    from db.results import read_predictions

    return next(read_predictions(session.ledger, replace(chosen, limit=1)), None) is not None


def _check_known(session: Session, chosen: Filter) -> None:
    """A class or reason that the run does not have is a slip of the pen, not an empty table."""
    from db.results import Filter
    from db.runs import count_by_class, failures_by_reason
    from worker.errors import XraycamError

    assert chosen.run is not None
    run = chosen.run
    for option, value, alone, look in (
        ("--class", chosen.class_name, Filter(run=run, class_name=chosen.class_name), count_by_class),
        ("--reason", chosen.reason, Filter(run=run, reason=chosen.reason), failures_by_reason),
    ):
        if value is None or _has_any(session, alone) or (option == "--class" and chosen.is_finding):
            continue
        if value not in (known := session.ledger.query(look, run)):
            has = ", ".join(f"{name} ({count})" for name, count in known.items()) or "none yet"
            raise XraycamError(f"{option} {value}: run {run} has {has}")


def _describer(
    settings: Settings, ledger: Ledger, options: ExplainOptions
) -> Callable[[dict[str, Any], Sequence[str]], OverlayFacts]:
    """What makes the facts of a row, for the labels of its maps; a version is read once."""
    from functools import lru_cache

    from db.models import get_model
    from worker.explain.caption import facts_of_row
    from worker.model.metadata import ModelMetadata, read_metadata
    from worker.model.store import store_of

    store = store_of(settings)

    @lru_cache(maxsize=8)
    def metadata_of(version: str) -> ModelMetadata:
        return read_metadata(store.fetch(version, ledger.query(get_model, version).digest))

    def describe(row: dict[str, Any], labels: Sequence[str]) -> OverlayFacts:
        return facts_of_row(row, labels, metadata_of(row["model_version"]), options)

    return describe


def recolour_run(
    settings: Settings, ledger: Ledger, run: Run, colormap: str, opacity: float
) -> Iterator[str | None]:
    """Redraw the overlays of a run's done images; for each, None or why it was left as it was.

    Raises XraycamError when the run kept no heatmaps.
    """
    from concurrent.futures import ThreadPoolExecutor

    from db.results import Filter, read_predictions
    from worker.errors import XraycamError
    from worker.explain.options import ExplainOptions
    from worker.explain.overlay import encode, recolour, write_atomically
    from worker.images.masks import load_masks
    from worker.images.reader import limits_of
    from worker.images.remote_archive import remote_source
    from worker.remote.folder import RemotePath, file_of, place_of

    options = ExplainOptions.model_validate({**run.options, "colormap": colormap, "opacity": opacity})
    if not options.heatmaps:
        raise XraycamError(
            f"run {run.id} kept no heatmaps; run the folder with --heatmaps to be able to change its colours"
        )
    limits = limits_of(settings)
    root, output = place_of(run.root), place_of(run.output)
    inside = output if isinstance(output, Path) else None
    marked = load_masks(Path(options.masks)) if options.outlines and options.masks else None
    if marked is not None and marked.digest != options.masks_digest:
        raise XraycamError(
            f"the masks in {options.masks} have changed since run {run.id}, whose overlays show their "
            "outlines; run the folder again"
        )
    describe = _describer(settings, ledger, options)

    def redraw(row: dict[str, Any]) -> str | None:
        try:
            overlay = file_of(output, row["overlay"])
            image, heatmap = file_of(root, row["path"]), file_of(output, row["heatmap"])
            if isinstance(image, RemotePath):
                image = remote_source(image.folder, image.path)
            facts: list[OverlayFacts] = []

            def told(labels: Sequence[str]) -> OverlayFacts:
                facts.append(describe(row, labels))
                return facts[0]

            picture = recolour(image, heatmap, options, limits, told, marked)
            write_atomically(encode(picture, options.output_format, facts[0]), overlay, inside)
        except XraycamError as error:
            return str(error)
        return None

    threads = usable_processors()
    waiting: deque[Future[str | None]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for row in read_predictions(ledger, Filter(run=run.id, status="done")):
            waiting.append(pool.submit(redraw, row))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@click.command("recolour")
@click.argument("run", type=int, required=False)
@click.option(
    "--colormap",
    type=click.Choice(COLORMAPS),
    default="inferno",
    show_default=True,
    help="Colours of the heatmap.",
)
@click.option(
    "--opacity",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of colour where the heatmap is hottest.",
)
def recolour_command(run: int | None, colormap: str, opacity: float) -> None:
    """Draw the overlays of RUN (or of the latest run) again in other colours.

    From the heatmaps that 'run --heatmaps' kept: nothing is computed anew.

    \b
    Example:
      xraycam recolour 3 --colormap viridis --opacity 0.7
    """  # fmt: skip
    from rich.progress import track

    from producer.cli import SOME_FAILED
    from producer.session import open_session

    session = open_session()
    chosen = session.run(run)
    count, errors = 0, 0
    outcomes = recolour_run(session.settings, session.ledger, chosen, colormap, opacity)
    for error in track(outcomes, "recolouring", console=session.err, disable=not session.err.is_terminal):
        count += 1
        if error is not None:
            errors += 1
            session.err.print(error, soft_wrap=True, markup=False)
    click.echo(f"{count - errors} overlays of run {chosen.id} in {colormap}, {errors} left as they were")
    if errors:
        raise SystemExit(SOME_FAILED)
