"""An archive written anew is explained anew, though its members have the names, sizes and times of before."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.installation import Installation

FIRST, OTHER = 3, 4


def picture(seed: int) -> bytes:
    """All of one size in bytes: as of one detector, not compressed."""
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(pixels).save(content, "TIFF")
    return content.getvalue()


def write(archive: Path, *seeds: int) -> None:
    """Members `IM000000.tif`, ..., with the constant time that writers of exports give."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for number, seed in enumerate(seeds):
                file.writestr(zipfile.ZipInfo(f"IM{number:06}.tif"), picture(seed))
        return
    with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as file:
        for number, seed in enumerate(seeds):
            info = tarfile.TarInfo(f"IM{number:06}.tif")
            info.size = len(picture(seed))
            file.addfile(info, io.BytesIO(picture(seed)))


@pytest.mark.parametrize("name", ["export.zip", "export.tar"])
def test_other_images_of_the_same_names_sizes_and_times_are_changed(
    installation: Installation, name: str
) -> None:
    folder = installation.folder / "xrays"
    folder.mkdir()
    write(folder / name, FIRST, FIRST + 10)
    installation.without_tensorflow()
    installation.xraycam("run", folder, "--no-report")
    assert "2 done already" in installation.xraycam("run", folder, "--dry-run").stdout

    write(folder / name, FIRST, OTHER)

    told = installation.xraycam("run", folder, "--dry-run").stdout
    # A zip has checksums; of a tar that was written anew, no member may be taken for the same.
    assert f"{1 if name == 'export.zip' else 2} changed" in told
