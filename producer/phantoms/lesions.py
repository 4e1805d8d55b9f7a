"""Lesions of known outline, added to a healthy chest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from producer.phantoms.anatomy import Chest
from producer.phantoms.canvas import Floats, Layer, Points, Pose, cloud, rounded

# Finding types as in the radiologists' annotation of the Shenzhen set (Yang et al. 2022).
Finding = Literal["Single_Nodule_(non-calcified)", "Cavity", "Moderate_Infiltrate_(non-linear)"]
FINDINGS: tuple[Finding, ...] = (
    "Single_Nodule_(non-calcified)",
    "Cavity",
    "Moderate_Infiltrate_(non-linear)",
)
# Radius in body lengths, smallest and largest.
RADII: dict[Finding, tuple[float, float]] = {
    "Single_Nodule_(non-calcified)": (0.018, 0.036),
    "Cavity": (0.032, 0.055),
    "Moderate_Infiltrate_(non-linear)": (0.05, 0.085),
}
PLACING_TRIES = 40
# Drawn smaller than the outline by this much, so that the blurred rim fades out within it.
INSET = 0.82


@dataclass(frozen=True)
class Lesion:
    """One finding and its outline (n, 2) in body coordinates."""

    finding: Finding
    outline: Points

    def scaled(self, factor: float) -> Points:
        centre = self.outline.mean(axis=0)
        shrunk: Points = centre + (self.outline - centre) * factor
        return shrunk


def place_lesions(rng: np.random.Generator, chest: Chest) -> list[Lesion]:
    """Choose one to three lesions, wholly in visible lung, apart from each other, mostly high up."""
    wanted = int(rng.integers(1, 4))
    lesions: list[Lesion] = []
    for attempt in range(PLACING_TRIES * wanted):
        if len(lesions) == wanted:
            break
        # The first one is always found: the longer it takes, the smaller it is.
        lesion = _lesion(rng, shrink=1.0 / (1.0 + attempt / PLACING_TRIES))
        if _in_lung(lesion, chest) and all(_apart(lesion, other) for other in lesions):
            lesions.append(lesion)
    return lesions


def lesion_absorption(rng: np.random.Generator, pose: Pose, lesions: list[Lesion]) -> Floats:
    """Give what the lesions absorb in addition, (size, size) float32, 0 outside their outlines."""
    total = np.zeros((pose.size, pose.size), np.float32)
    for lesion in lesions:
        layer = Layer(pose)
        layer.area(lesion.scaled(INSET))
        radius = float(np.ptp(lesion.outline[:, 0])) / 2
        blur = radius * 0.1
        texture: Floats | float = 1.0
        if lesion.finding == "Cavity":
            layer.area(lesion.scaled(INSET * 0.66), 0.22)
            blur = radius * 0.07
        elif lesion.finding == "Moderate_Infiltrate_(non-linear)":
            texture = np.clip(0.72 + 0.30 * cloud(rng, 28, pose.size), 0.2, 1.2)
        extent = Layer(pose)
        extent.area(lesion.outline)
        total += rng.uniform(0.24, 0.38) * layer.values(blur) * texture * extent.drawn()
    return total


def _lesion(rng: np.random.Generator, shrink: float) -> Lesion:
    finding = FINDINGS[int(rng.integers(len(FINDINGS)))]
    radius = rng.uniform(*RADII[finding]) * shrink
    unevenness = 0.22 if finding == "Moderate_Infiltrate_(non-linear)" else 0.07
    angles = np.linspace(0.0, 2 * np.pi, 9, endpoint=False)
    radii = radius * (1 + np.clip(rng.normal(0.0, unevenness, 9), -0.4, 0.4))
    centre = (0.5 + rng.choice((-1, 1)) * rng.uniform(0.09, 0.27), 0.18 + 0.46 * rng.beta(1.2, 2.0))
    corners = centre + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    return Lesion(finding, rounded(corners, closed=True, times=2))


def _in_lung(lesion: Lesion, chest: Chest) -> bool:
    rim = np.rint(chest.pose.pixels(lesion.outline)).astype(int)
    if rim.min() < 0 or rim.max() >= chest.pose.size:
        return False
    return bool((chest.lungs[rim[:, 1], rim[:, 0]] > 0.75).all())


def _apart(one: Lesion, other: Lesion) -> bool:
    gap = np.linalg.norm(one.outline.mean(axis=0) - other.outline.mean(axis=0))
    radii = (np.ptp(one.outline[:, 0]) + np.ptp(other.outline[:, 0])) / 2
    return bool(gap > 1.15 * radii)
