"""What a run says of its maps before anybody believes them."""

from __future__ import annotations

from db.results import ClassAttribution
from producer.attribution_report import attribution_lines, occlusion_lines
from worker.explain.attribution import BORDER_AREA, CORNER_AREA
from worker.map_evaluation.reports import REGIONS
from worker.model.metadata import Layer, ModelMetadata, Weights


def heat(border: float, corner: float, marked: float | None = None, blank: int = 0) -> ClassAttribution:
    return ClassAttribution("Tuberculosis", 40, blank, border, corner, marked, 0 if marked is None else 12)


def test_heat_outside_the_middle_is_warned_of_with_the_share_that_chance_gives() -> None:
    (line,) = attribution_lines([heat(0.5, 0.6)])
    assert line.startswith("warning: the score of Tuberculosis comes from outside the middle")
    assert "60% in the corners (25% of the area)" in line
    assert "at the border" not in line
    (line,) = attribution_lines([heat(0.8, 0.3)])
    assert "80% at the border (44% of the area)" in line


def test_even_heat_and_heat_in_the_middle_are_not_warned_of() -> None:
    assert list(attribution_lines([heat(BORDER_AREA, CORNER_AREA), heat(0.2, 0.05)])) == []


def test_marked_areas_and_blank_maps_are_told_of() -> None:
    lines = list(attribution_lines([heat(0.3, 0.1, marked=0.42, blank=3)]))
    assert lines == [
        "Tuberculosis: 42% of the heat in the marked area, on average over 12 images",
        "Tuberculosis: 3 maps are blank, drawn as the plain X-ray",
    ]
    assert list(attribution_lines([heat(0.3, 0.1, blank=1)])) == [
        "Tuberculosis: 1 map is blank, drawn as the plain X-ray"
    ]


def test_versions_without_figures_are_silent_and_those_with_figures_speak() -> None:
    layer = Layer(name="out_relu", height=7, width=7, channels=1280, is_cam_candidate=True)
    plain = ModelMetadata(
        version="v-1",
        classes=("Normal", "Tuberculosis"),
        layers=(layer,),
        default_layer="out_relu",
        weights=Weights(sha256="0" * 64),
        created="2025-01-01T00:00:00Z",
    )
    assert list(occlusion_lines(plain.training)) == []
    hidden = {place: {"lost": 0.1, "changed": 0.0} for place in REGIONS}
    hidden["bottom left corner"] = {"lost": 0.9, "changed": 0.7}
    one = {"class_name": "Normal", "images": 9, "hidden": hidden}
    (line,) = occlusion_lines({"reliance": [one]})
    assert (
        "looks at the bottom left corner: masking it cuts the Normal margin by 90%, and 6 of 9 images" in line
    )
    damaged = plain.model_copy(update={"training": {"reliance": [{"class_name": 3}]}})
    assert list(occlusion_lines(damaged.training)) == []
