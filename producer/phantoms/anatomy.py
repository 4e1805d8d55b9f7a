"""A healthy chest, seen from the front, as a map of how much each point absorbs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from producer.phantoms.canvas import Floats, Layer, Points, Pose, arc, cloud, mirrored, points, rounded

# Outlines of the half at the left of the picture (the patient's right), in body coordinates.
BODY = points(
    (0.5, -0.2), (0.40, -0.2), (0.39, 0.04), (0.31, 0.085), (0.15, 0.10), (0.02, 0.14), (-0.3, 0.30),
    (-0.3, 0.66), (0.02, 0.43), (0.085, 0.40), (0.115, 0.50), (0.115, 0.66), (0.10, 0.82), (0.10, 1.2),
    (0.5, 1.2),
)  # fmt: skip
CHEST_WALL = points((0.37, 0.115), (0.28, 0.145), (0.215, 0.26), (0.175, 0.42), (0.155, 0.56), (0.148, 0.70))
MEDIAL = points((0.46, 0.62), (0.456, 0.47), (0.452, 0.34), (0.458, 0.23), (0.44, 0.13))
HEART = points(
    (0.47, 0.36), (0.435, 0.47), (0.41, 0.58), (0.42, 0.68), (0.52, 0.75),
    (0.68, 0.72), (0.725, 0.66), (0.69, 0.55), (0.62, 0.44), (0.57, 0.36),
)  # fmt: skip


@dataclass(frozen=True)
class Chest:
    """`absorption` (size, size) float32, 0 is air; `lungs` the same, the share of visible lung, 0 to 1."""

    pose: Pose
    absorption: Floats
    lungs: Floats


def draw_chest(rng: np.random.Generator, size: int) -> Chest:
    """Draw one patient, every measure a little different."""
    width = rng.uniform(0.90, 1.03)
    pose = Pose(
        size,
        scale=(width, width * rng.uniform(0.97, 1.08)),
        turn=rng.normal(0.0, 0.022),
        shift=(rng.normal(0.0, 0.012), rng.uniform(-0.02, 0.03)),
    )
    breath = rng.uniform(-0.04, 0.04)
    right = _lung(breath)
    left = mirrored(_lung(breath + rng.uniform(0.005, 0.03)))
    heart = _heart(rng, breath)

    field, depth = Layer(pose), Layer(pose, shrink=8)
    for outline in (right, left):
        field.area(outline)
        depth.area(outline)
    middle = Layer(pose, shrink=4)
    middle.area(heart)
    middle.area(_mediastinum(rng))
    airy = field.values(0.0035)
    dense = middle.values(0.006)
    lungs = airy * (1 - dense)

    skin = _body(pose).values(0.004)
    absorption = 0.30 + 0.55 * _body(pose, shrink=8).values(0.05)
    absorption -= (0.28 + 0.10 * rng.uniform()) * airy + 0.16 * airy * depth.values(0.05)
    belly = _belly(rng, pose, breath)
    absorption += (0.26 + 0.08 * rng.uniform()) * dense * (1 - 0.6 * belly) + 0.27 * belly
    absorption += _bones(rng, pose)
    absorption += airy * (0.20 * _vessels(rng, pose) + 0.012 * cloud(rng, size // 10, size))
    absorption += 0.03 * cloud(rng, 8, size)
    if rng.uniform() < 0.4:
        absorption += 0.08 * _breasts(rng, pose)
    absorption *= skin
    return Chest(pose, absorption, lungs)


def _lung(breath: float) -> Points:
    """Outline of the lung at the left of the picture; its floor is the dome of the diaphragm."""
    dome = points((0.143, 0.785), (0.185, 0.72), (0.26, 0.672), (0.36, 0.664), (0.445, 0.71))
    return rounded(np.concatenate([CHEST_WALL, np.add(dome, (0.0, breath)), MEDIAL]), closed=True)


def _heart(rng: np.random.Generator, breath: float) -> Points:
    grown = (HEART - (0.5, 0.36)) * (rng.uniform(0.88, 1.12), 1.0 + breath) + (0.5, 0.36)
    return rounded(grown, closed=True)


def _mediastinum(rng: np.random.Generator) -> Points:
    knob = rng.uniform(0.58, 0.605)
    right = points((0.455, -0.2), (0.455, 0.15), (0.437, 0.28), (0.448, 0.38), (0.45, 1.2))
    left = points((0.55, 1.2), (0.56, 0.42), (knob, 0.32), (knob, 0.25), (0.555, 0.19), (0.545, -0.2))
    return rounded(np.concatenate([right, left]), closed=True)


def _body(pose: Pose, shrink: int = 2) -> Layer:
    layer = Layer(pose, shrink=shrink)
    layer.area(rounded(np.concatenate([BODY, mirrored(BODY)[::-1]]), closed=True))
    return layer


def _belly(rng: np.random.Generator, pose: Pose, breath: float) -> Floats:
    """The denser part below the diaphragm, with gas in the stomach in most."""
    belly = Layer(pose, shrink=4)
    top = points(
        (0.08, 0.80), (0.22, 0.70), (0.38, 0.67), (0.5, 0.72), (0.62, 0.70), (0.78, 0.73), (0.92, 0.82)
    )
    outline = np.concatenate(
        [rounded(np.add(top, (0.0, breath)), closed=False), points((0.9, 1.3), (0.1, 1.3))]
    )
    belly.area(outline)
    if rng.uniform() < 0.7:
        centre = points((rng.uniform(0.62, 0.72), 0.80 + breath))
        angles = np.linspace(0.0, 2 * np.pi, 20, endpoint=False)
        belly.area(centre + np.column_stack([0.065 * np.cos(angles), 0.028 * np.sin(angles)]), 0.1)
    return belly.values(0.01)


def _bones(rng: np.random.Generator, pose: Pose) -> Floats:
    back, front = Layer(pose), Layer(pose, shrink=2)
    white = Layer(pose, shrink=2)
    step, steep = rng.uniform(0.056, 0.064), rng.uniform(0.9, 1.15)
    for rib in range(11):
        top = 0.125 + step * rib
        lateral = float(np.interp(top + 0.07, CHEST_WALL[:, 1], CHEST_WALL[:, 0]))
        drop = steep * (0.045 + 0.009 * rib)
        behind = arc((0.475, top), (0.30, top - 0.045 + 0.004 * rib), (lateral - 0.008, top + drop))
        before = arc(
            (lateral - 0.006, top + drop), (lateral + 0.01, top + 0.15), (0.375, top + 0.20 + 0.01 * rib)
        )
        for side in (behind, mirrored(behind)):
            _long_bone(back, side, 0.027, core=0.74)
        if rib < 8:
            for side in (before, mirrored(before)):
                _long_bone(front, side, 0.028, core=0.78)
    for vertebra in range(19):
        top = -0.06 + 0.062 * vertebra
        half = 0.036 + 0.0006 * vertebra
        white.area(
            points((0.5 - half, top), (0.5 + half, top), (0.5 + half, top + 0.05), (0.5 - half, top + 0.05))
        )
        white.area(
            points((0.493, top + 0.03), (0.507, top + 0.03), (0.505, top + 0.055), (0.495, top + 0.055)), 0.6
        )
    _shoulders(rng, white)
    bones: Floats = 0.10 * back.values(0.0016) + 0.055 * front.values(0.0024) + 0.155 * white.values(0.0024)
    return bones


def _shoulders(rng: np.random.Generator, girdle: Layer) -> None:
    """Collar bone, shoulder blade and upper arm of both sides."""
    for turn in (lambda line: line, mirrored):
        lift = 0.012 + rng.normal(0.0, 0.006)
        head = points((0.03, 0.19), (0.085, 0.18), (0.105, 0.22), (0.085, 0.265), (0.04, 0.26), (0.02, 0.22))
        girdle.area(turn(rounded(head, closed=True)), 0.55)
        _long_bone(girdle, turn(points((0.055, 0.24), (-0.06, 0.40), (-0.2, 0.60))), 0.048, core=0.5)
        girdle.band(turn(arc((0.13, 0.19), (0.135, 0.32), (0.215, 0.44))), 0.010, 0.45)
        girdle.band(turn(arc((0.20, 0.165), (0.255, 0.26), (0.215, 0.44))), 0.007, 0.4)
        _long_bone(girdle, turn(arc((0.06, 0.155), (0.12, 0.12), (0.24, 0.15))), 0.018, core=0.6)
        outer = arc((0.10, 0.135 + lift), (0.20, 0.115 + lift), (0.30, 0.165 + lift))
        inner = arc((0.30, 0.165 + lift), (0.38, 0.205 + lift), (0.455, 0.19 + lift))
        collar = np.concatenate([outer, inner])
        _long_bone(girdle, turn(collar), 0.024, core=0.7)


def _long_bone(layer: Layer, line: Points, width: float, *, core: float) -> None:
    """Draw a tube: seen from the side its rim absorbs more than its core."""
    layer.band(line, width)
    layer.band(line, width * 0.62, core)


def _vessels(rng: np.random.Generator, pose: Pose) -> Floats:
    """Vessels that leave the hilum and fork, thinner and fainter on their way."""
    layer = Layer(pose)
    for side in (-1, 1):
        hilum = np.array([0.5 + side * 0.075, 0.42])
        for angle in np.linspace(-1.35, 1.45, 10) + rng.normal(0.0, 0.13, 10):
            reach = rng.uniform(0.12, 0.30)
            root = hilum + rng.normal(0.0, (0.008, 0.025))
            tip = root + reach * _direction(angle, side)
            trunk = arc(root, (root + tip) / 2 + rng.normal(0.0, 0.022, 2), tip, 9)
            for start, width in ((0, 0.009), (3, 0.006), (6, 0.0035)):
                layer.band(trunk[start : start + 4], width, 0.75 - 0.08 * start)
            for fork in (3, 5):
                twig = trunk[fork] + reach * 0.45 * _direction(angle + rng.choice((-0.6, 0.6)), side)
                layer.band(points(tuple(trunk[fork]), tuple(twig)), 0.0035, 0.35)
        layer.area(
            rounded(hilum + points((0.0, -0.035), (0.02, 0.0), (0.005, 0.05), (-0.02, 0.02)), closed=True),
            0.6,
        )
    return layer.values(0.0028)


def _direction(angle: float, side: int) -> Points:
    return np.array([side * np.cos(angle), np.sin(angle)])


def _breasts(rng: np.random.Generator, pose: Pose) -> Floats:
    layer = Layer(pose, shrink=4)
    angles = np.linspace(0.0, 2 * np.pi, 40, endpoint=False)
    radius = rng.uniform(0.13, 0.16)
    for x in (0.27, 0.73):
        centre = np.array([x, 0.62 + rng.normal(0.0, 0.008)])
        layer.area(centre + radius * np.column_stack([np.cos(angles), 0.8 * np.sin(angles)]))
    return layer.values(0.012)
