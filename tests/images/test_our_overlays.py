"""Overlays that were copied out of the folder of their run are known by what they say of themselves."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from worker.errors import ImageError
from worker.explain.caption import MapFacts, OverlayFacts
from worker.explain.names import OUTPUT_FORMATS
from worker.explain.overlay import encode
from worker.images.limits import Limits
from worker.images.reader import read_radiograph


def facts(maps: int) -> OverlayFacts:
    drawn = [MapFacts(f"block_{number}_add gradcam", 0.02, 0.03) for number in range(maps)]
    return OverlayFacts("Normal", 0.9, "Tuberculosis", "starter-2", tuple(drawn), "version")


@pytest.mark.parametrize("maps", [1, 400])
@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_an_overlay_is_no_radiograph_wherever_it_lies(tmp_path: Path, output_format: str, maps: int) -> None:
    picture = Image.effect_noise((900, 700), 90).convert("RGB")
    (tmp_path / "copied").write_bytes(encode(picture, output_format, facts(maps)))
    with pytest.raises(ImageError, match="is an overlay of xraycam") as caught:
        read_radiograph(tmp_path / "copied", Limits())
    assert caught.value.reason == "not-radiograph"


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP"])
def test_a_radiograph_that_names_its_software_is_read(tmp_path: Path, encoding: str) -> None:
    exif = Image.Exif()
    exif[0x0131] = "xraycamera 2"
    written = io.BytesIO()
    Image.effect_noise((90, 70), 90).save(written, encoding, exif=exif)
    (tmp_path / "exported").write_bytes(written.getvalue())
    assert read_radiograph(tmp_path / "exported", Limits()).width == 90
