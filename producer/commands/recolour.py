"""`xraycam recolour`: other colours for overlays, without the model."""

from __future__ import annotations

import click

from producer.commands._request import COLORMAPS


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
def command(run: int | None, colormap: str, opacity: float) -> None:
    """Draw the overlays of RUN (or of the latest run) again in other colours.

    From the heatmaps that 'run --heatmaps' kept: nothing is computed anew.

    \b
    Example:
      xraycam recolour 3 --colormap viridis --opacity 0.7
    """  # fmt: skip
    from rich.progress import track

    from producer.exit_status import SOME_FAILED
    from producer.recolouring import recolour_run
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
