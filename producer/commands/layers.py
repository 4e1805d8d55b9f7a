"""`xraycam layers`: which layers can be explained."""

from __future__ import annotations

import click


@click.command("layers")
@click.option("--model", help="Model version; without it, the current one.")
@click.option("--all", "everything", is_flag=True, help="Also those that suit class activation maps badly.")
def command(model: str | None, everything: bool) -> None:
    """List the model's layers from input to output, marking those that suit Grad-CAM (*).

    Early layers give fine maps of edges and textures, late ones coarse maps of what the score rests on.

    \b
    Example:
      xraycam layers --all
    """
    from rich.table import Table

    from db.models import get_model
    from producer.session import open_session
    from worker.model.description import read_description
    from worker.model.store import ensure_current_model, store_of

    session = open_session()
    store = store_of(session.settings)
    current = ensure_current_model(session.ledger, store)
    chosen = get_model(session.ledger, model) if model else current
    description = read_description(store.fetch(chosen.version, chosen.digest))
    side = description.preprocessing.size
    table = Table(title=f"model {chosen.version}, input {side} x {side}")
    for name in ("layer", "map", "channels", ""):
        table.add_column(name, justify="left" if name in ("layer", "") else "right")
    for layer in description.layers:
        if everything or layer.suits_cam:
            marks = ("*" if layer.suits_cam else "") + (
                " default" if layer.name == description.default_layer else ""
            )
            table.add_row(layer.name, f"{layer.height} x {layer.width}", str(layer.channels), marks)
    session.out.print(table)
