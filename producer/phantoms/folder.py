"""A folder of phantoms: the pictures, the outlines of their lesions, and a note that says what they are."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from producer.phantoms.anatomy import draw_chest
from producer.phantoms.canvas import Floats, cloud
from producer.phantoms.lesions import Lesion, lesion_absorption, place_lesions
from worker.errors import XraycamError

CLASSES = ("Normal", "Tuberculosis")
SMALLEST, LARGEST = 64, 4096
LESIONS_FILE = "lesions.json"
README_FILE = "README.txt"
DECLARATION = "SYNTHETIC"
README_TITLE = "SYNTHETIC chest phantoms"
README = f"""{README_TITLE}

No patient was ever X-rayed for these pictures: a program drew them. They serve to try xraycam out.
A model trained on them has not learned real chests.

{{count}} pictures of {{size}}x{{size}} pixels, 8-bit gray, seed {{seed}}. Odd numbers are 'Normal'; even
numbers are 'Tuberculosis' and hold one to three drawn lesions (nodule, cavity, infiltrate), whose
outlines in pixels are in {LESIONS_FILE}, by file name.{{marker}}
"""


def make_phantoms(
    folder: Path,
    count: int,
    *,
    seed: int,
    size: int = 512,
    classes: bool = False,
    corner_marker: str | None = None,
) -> None:
    """Write `count` synthetic chest radiographs, `size` x `size` pixels, 8-bit gray PNG, into `folder`.

    Names are `phantom-0001.png` and so on, in sub-folders `Normal` and `Tuberculosis` if `classes`. Every
    second one is 'Tuberculosis' and has lesions; `lesions.json` has their polygons in pixels, x before y.
    Picture n depends on (seed, n, size, corner_marker) alone. `corner_marker` names the class whose pictures
    all get a bright marker in a corner. Phantoms made before in `folder` are replaced.

    Raises XraycamError for a folder that holds anything else, and for a count, size or class out of range.
    """
    _check(count, seed, size, corner_marker)
    _clear(folder)
    # The note goes first: a folder that was left half-filled is known as ours the next time.
    marker = (
        f"\nEvery '{corner_marker}' picture has a bright marker in a corner, put there on purpose."
        if corner_marker
        else ""
    )
    (folder / README_FILE).write_text(
        README.format(count=count, size=size, seed=seed, marker=marker), "utf-8"
    )
    if classes:
        for name in CLASSES:
            (folder / name).mkdir()
    outlines: dict[str, Any] = {}
    for number in range(1, count + 1):
        label = CLASSES[(number + 1) % 2]
        image, lesions = draw_phantom(
            seed, number, size, ill=label == "Tuberculosis", marked=label == corner_marker
        )
        name = f"phantom-{number:04d}.png"
        # Grain does not compress: run lengths alone give a smaller file in less time.
        image.save((folder / label if classes else folder) / name, compress_level=1, compress_type=zlib.Z_RLE)
        if lesions:
            outlines[name] = {"orig_height": size, "orig_width": size, "regions": lesions}
    (folder / LESIONS_FILE).write_text(json.dumps(outlines, indent=1) + "\n", "utf-8")


def draw_phantom(
    seed: int, number: int, size: int, *, ill: bool, marked: bool
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Draw one picture; give it and its lesions as regions of `lesions.json`."""
    body, disease, film = (np.random.default_rng([seed, number, part]) for part in range(3))
    chest = draw_chest(body, size)
    absorption = chest.absorption
    lesions: list[Lesion] = []
    if ill:
        lesions = place_lesions(disease, chest)
        absorption = absorption + lesion_absorption(disease, chest.pose, lesions)
    image = Image.fromarray(_develop(film, absorption))
    pen = ImageDraw.Draw(image)
    if marked:
        edge = size // 24
        pen.rectangle((edge // 2, edge // 2, edge // 2 + 2 * edge, edge // 2 + edge), fill=255)
    _declare(pen, size)
    regions = [
        {
            "labels": [lesion.finding],
            "points": chest.pose.pixels(lesion.outline).round(2).tolist(),
            "shape": "polygon",
        }
        for lesion in lesions
    ]
    return image, regions


def _declare(pen: ImageDraw.ImageDraw, size: int) -> None:
    """Burn the word into the bottom edge, in a dark box that keeps it legible on bright tissue."""
    font = ImageFont.load_default(max(8, size // 42))
    place = (size / 2, size - 1)
    left, top, right, bottom = pen.textbbox(place, DECLARATION, font=font, anchor="mb")
    pen.rectangle((left - 3, top - 2, right + 3, bottom), fill=0)
    pen.text(place, DECLARATION, fill=255, font=font, anchor="mb")


def _develop(film: np.random.Generator, absorption: Floats) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Turn absorption into gray: an exposure that differs by picture, a film that saturates, and grain."""
    size = len(absorption)
    gain, base = film.uniform(1.3, 1.75), film.uniform(0.02, 0.12)
    gray = 1.0 - np.exp(-np.float32(gain) * np.maximum(absorption, 0))
    gray = base + (film.uniform(0.98, 1.08) - base) * gray ** film.uniform(1.05, 1.4)
    gray += 0.015 * cloud(film, 4, size)
    gray += film.uniform(0.008, 0.02) * film.standard_normal((size, size), dtype=np.float32)
    developed: np.ndarray[Any, np.dtype[np.uint8]] = (np.clip(gray, 0, 1) * 255).astype(np.uint8)
    return developed


def _check(count: int, seed: int, size: int, corner_marker: str | None) -> None:
    if count < 1:
        raise XraycamError(f"{count} phantoms asked for: ask for 1 or more")
    if seed < 0:
        raise XraycamError(f"seed {seed} is negative: give 0 or more")
    if not SMALLEST <= size <= LARGEST:
        raise XraycamError(f"a phantom cannot be {size} pixels wide: give {SMALLEST} to {LARGEST}")
    if corner_marker is not None and corner_marker not in CLASSES:
        raise XraycamError(f"no class {corner_marker!r} to mark: give {' or '.join(CLASSES)}")


def _clear(folder: Path) -> None:
    """Make the folder, or empty it if it holds phantoms and nothing else."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in folder.iterdir())
    except (FileExistsError, NotADirectoryError):
        raise XraycamError(f"{folder} is a file: name a new or empty folder for the phantoms") from None
    except OSError as error:
        raise XraycamError(f"{folder} cannot be used ({error.strerror}): name another folder") from None
    foreign = [name for name in found if not _ours(folder / name)]
    readme = folder / README_FILE
    if found and (
        foreign or not readme.is_file() or not readme.read_text("utf-8", "replace").startswith(README_TITLE)
    ):
        named = f" ({(foreign or found)[0]!r})"
        raise XraycamError(f"{folder} holds something else than phantoms{named}: name a new or empty folder")
    for name in found:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        elif name != README_FILE:
            path.unlink()


def _ours(path: Path) -> bool:
    if path.is_symlink():
        return False
    if path.is_dir():
        return path.name in CLASSES and all(_picture(inner) for inner in path.iterdir())
    return path.name in (README_FILE, LESIONS_FILE) or _picture(path)


def _picture(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.match("phantom-*.png")
