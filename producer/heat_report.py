"""Saying when much of the heat of a run lies where no lung is."""

from __future__ import annotations

from collections.abc import Iterator

from db.heat import ClassHeat

# A map without any preference has 0.25 of its heat in the corners and 0.44 at the border.
MUCH_IN_CORNERS = 0.45
MUCH_AT_BORDER = 0.65


def heat_lines(found: list[ClassHeat]) -> Iterator[str]:
    """What a person should know of a run's maps: warnings first, then the share in marked areas."""
    for heat in found:
        where = []
        if heat.corner >= MUCH_IN_CORNERS:
            where.append(f"{heat.corner:.0%} in the corners (25% of the area)")
        if heat.border >= MUCH_AT_BORDER:
            where.append(f"{heat.border:.0%} at the border (44% of the area)")
        if where:
            yield (
                f"warning: the score of {heat.class_name} comes from outside the middle of the picture: of "
                f"the heat of {heat.images} images {' and '.join(where)} on average. A model that looks "
                "at side markers or film edges does this; look at the overlays before you believe it"
            )
    for heat in found:
        if heat.marked is not None:
            yield (
                f"{heat.class_name}: {heat.marked:.0%} of the heat in the marked area, on average over "
                f"{heat.marked_images} images"
            )
        if heat.blank:
            yield f"{heat.class_name}: {heat.blank} maps are blank, drawn as the plain X-ray"
