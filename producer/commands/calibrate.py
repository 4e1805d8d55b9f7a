"""`xraycam calibrate`: a threshold for a site and a model version, from the site's own labelled images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from producer.places import LocalPath

if TYPE_CHECKING:
    from db.operating_points import SiteThreshold
    from producer.session import Session
    from producer.tables import Table
    from worker.train.calibration import Calibration

_SHOWN = tuple(float(value) for value in range(10, 100, 10))
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


@click.command("calibrate")
@click.argument("dataset", type=LocalPath(path_type=Path))
@click.option("--model", help="Model version; without it the current one.")
@click.option(
    "--sensitivity",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.9,
    show_default=True,
    help="The share of ill people whom the threshold is to refer.",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of ill people among those who will be screened; without it that of the images.",
)
@click.option("--site", metavar="NAME", help="Save the threshold for this site: 'run --site NAME' uses it.")
@click.option("--check", is_flag=True, help="Measure the site's saved threshold here; choose and save none.")
@click.option(
    "--groups",
    type=LocalPath(path_type=Path, dir_okay=False),
    metavar="FILE.csv",
    help="Columns path and device, age or sex: measures each subgroup.",
)
@click.option(
    "--images", type=LocalPath(path_type=Path), help="The folder that the paths in a CSV file are from."
)
@click.option("--output", type=LocalPath(path_type=Path, file_okay=False), help="Folder for tables and plot.")
def calibrate_command(
    dataset: Path,
    model: str | None,
    sensitivity: float,
    prevalence: float | None,
    site: str | None,
    check: bool,
    groups: Path | None,
    images: Path | None,
    output: Path | None,
) -> None:
    """Choose a threshold on DATASET, a labelled folder or CSV file as 'train' takes, and say what it gives.

    Shows sensitivity, specificity, PPV, NPV, and how many of 1,000 people are missed and referred, over all
    thresholds. A threshold is saved for one site and one model version, and applied to no other.

    \b
    Examples:
      xraycam calibrate ./our-images --prevalence 0.05 --site north-clinic
      xraycam calibrate ./later-images --site north-clinic --check
    """
    from producer.labels_argument import labels_at
    from producer.session import open_session, output_dir
    from worker.model.store import store_of
    from worker.settings import load_settings
    from worker.tensorflow_import import import_tensorflow, quiet_tensorflow

    if check and site is None:
        raise click.UsageError("--check needs --site: whose threshold to measure.")
    if site is not None and _SITE.fullmatch(site) is None:
        raise click.UsageError("--site: letters, digits, spaces, '.', '_' and '-', 64 at most.")
    with quiet_tensorflow(load_settings()):
        session = open_session()
        folder, root = labels_at(dataset, images)
        chosen = session.model(model)
        saved = _saved_threshold(session, site or "", chosen.version) if check else None
        name = f"{chosen.version}-on-{folder.name}"
        with output_dir(output or session.settings.home / "calibrations" / name) as target:
            import_tensorflow()
            from worker.train.calibration import calibrate

            found = calibrate(
                session.settings,
                chosen,
                store_of(session.settings),
                folder,
                target,
                aim=("sensitivity", sensitivity),
                prevalence=prevalence,
                groups=groups,
                saved=saved,
                on_message=session.tell,
                images=root,
            )
    _over_thresholds(found, chosen.version).print(session.out)
    if found.subgroups:
        _by_subgroup(found).print(session.out)
    for line in _lines(found, saved is not None, prevalence is not None):
        session.out.print(line, soft_wrap=True)
    if site is not None and not check:
        from db.operating_points import save_site_threshold

        session.ledger.write(
            save_site_threshold,
            site=site,
            model_version=chosen.version,
            digest=chosen.digest,
            threshold=found.point.threshold,
            figures=found.figures,
        )
        session.out.print(
            f"saved for site {site} and model {chosen.version}: xraycam run FOLDER --site '{site}'"
        )
    session.out.print(f"all thresholds, figures and plot: {target}", soft_wrap=True)


def _saved_threshold(session: Session, site: str, version: str) -> SiteThreshold:
    from db.operating_points import site_threshold
    from worker.errors import XraycamError

    with session.ledger.read() as connection:
        found = site_threshold(connection, site, version)
    if found is None:
        raise XraycamError(
            f"--check: site {site} has no threshold for model {version}; make one first, without --check"
        )
    return found


def _lines(found: Calibration, is_check: bool, has_prevalence: bool) -> list[str]:
    from worker.counted_words import counted
    from worker.interval_words import with_interval
    from worker.score_words import threshold_words

    point, at = found.point, found.at_point
    low, high = point.threshold_interval
    chosen = "the saved threshold" if is_check else f"threshold for {point.name.replace('-', ' ')}%"
    between = "" if is_check else f" (95% interval {low:.1f} to {high:.1f})"
    lines = [
        f"{chosen}: {threshold_words(point.threshold)}{between}",
        f"sensitivity {with_interval(point.sensitivity, point.sensitivity_interval)} on "
        f"{counted(point.positive_images, 'positive image')}, specificity "
        f"{with_interval(point.specificity, point.specificity_interval)} on "
        f"{counted(point.negative_images, 'negative one')}",
        f"of 1,000 people at a prevalence of {found.prevalence:.1%}: {at.referred:.0f} "
        f"({at.referred_interval[0]:.0f} to {at.referred_interval[1]:.0f}) referred, {at.missed:.1f} "
        f"({at.missed_interval[0]:.1f} to {at.missed_interval[1]:.1f}) ill ones missed; "
        f"PPV {with_interval(at.ppv, at.ppv_interval)}, NPV {with_interval(at.npv, at.npv_interval)}",
    ]
    if not has_prevalence:
        lines.append(
            "that prevalence is that of the images, which is seldom that of the people screened: give "
            "--prevalence"
        )
    return lines


def _over_thresholds(found: Calibration, version: str) -> Table:
    from producer.tables import Column, Table
    from worker.score_words import threshold_words
    from worker.train.calibration import nearest

    names = ("score from", "sensitivity", "specificity", "PPV", "NPV", "missed/1,000", "referred/1,000")
    table = Table(
        [Column(name, 0 if number < 3 else 1, right=True) for number, name in enumerate(names)],
        title=f"model {version}, prevalence {found.prevalence:.1%}",
    )
    rows = [(threshold, row) for threshold in _SHOWN for row in nearest(found.over_thresholds, [threshold])]
    rows = sorted([*rows, (found.point.threshold, found.at_point)], key=lambda pair: pair[0])
    for threshold, row in rows:
        mark = "* " if row is found.at_point else ""
        table.add_row(
            f"{mark}{threshold_words(threshold)}",
            _share(row.sensitivity),
            _share(row.specificity),
            _share(row.ppv),
            _share(row.npv),
            f"{row.missed:.1f}",
            f"{row.referred:.0f}",
        )
    return table


def _by_subgroup(found: Calibration) -> Table:
    from producer.tables import Column, Table
    from worker.interval_words import with_interval
    from worker.score_words import threshold_words

    columns = (
        Column("subgroup"),
        Column("positive", 1, right=True),
        Column("negative", 1, right=True),
        Column("sensitivity", right=True),
        Column("specificity", right=True),
    )
    table = Table(columns, title=f"at {threshold_words(found.point.threshold)}, by subgroup (95% intervals)")
    for group in found.subgroups:
        table.add_row(
            f"{group.column} {group.value}",
            str(group.positive_images),
            str(group.negative_images),
            with_interval(group.sensitivity, group.sensitivity_interval),
            with_interval(group.specificity, group.specificity_interval),
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
