"""DICOM objects of results: valid by two validators, the same when made again, and of nobody else's study."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.dicom_results.validators import dciodvfy_errors, dicom_validator_errors
from tests.pacs.orthanc import studies
from tests.support.made_dicom import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, dicom, picture, written
from worker.dicom_results.objects import KINDS, ExplainedImage, NoHistory, ResultObject, make_objects
from worker.dicom_results.report import Predecessor
from worker.dicom_results.result import Result
from worker.dicom_results.source import ExportError, Source, read_source
from worker.errors import ImageError
from worker.explain.overlay import save_heatmaps
from worker.images.limits import Limits
from worker.images.reader import read_radiograph
from worker.model.metadata import Preprocessing

SAMPLES = Path(__file__).resolve().parents[3] / "shared/data/dicom"
ROW: dict[str, Any] = {
    "class": "Tuberculosis",
    "probability": 0.875,
    "probabilities": {"Normal": 0.125, "Tuberculosis": 0.875},
    "score": 81.5,
    "threshold": 50.0,
    "decision": "refer",
    "odd": "collimated,rotated",
    "target_class": "Tuberculosis",
    "layer": "block_12_add",
    "method": "gradcam",
    "model_version": "tb-3",
    "blank": False,
    "heatmap_max": {"block_12_add": 2.5},
    "finished_at": datetime(2026, 1, 16, 8, 30, tzinfo=UTC),
}
NOTHING_KNOWN = dict.fromkeys(("score", "threshold", "decision", "odd", "heatmap_max", "probabilities"))
AWKWARD = {
    "class": "結核\\ / tuberculosis of the very long name, which is longer than sixty-four letters",
    "probabilities": {"結核": 0.5, "a" * 255: 0.5},
    "odd": "",
    "blank": True,
    "decision": "not-decided",
    "model_version": "v" * 64,
}


def source_of(folder: Path, content: bytes | None = None) -> Source:
    if content is None:
        content = studies(folder / "drawn", 1)[0]
    (folder / "a.dcm").write_bytes(content)
    source = read_source(folder, "a.dcm", None, Limits())
    assert source is not None
    return source


def objects(
    source: Source,
    folder: Path,
    row: Mapping[str, Any] = ROW,
    kinds: frozenset[str] = frozenset(KINDS),
    predecessor: Predecessor | None = None,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = ("block_12_add gradcam",),
    **how: Any,
) -> dict[str, ResultObject]:
    overlay = folder / "overlay.jpg"
    Image.linear_gradient("L").resize((source.columns, source.rows)).convert("RGB").save(overlay)
    heat = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    save_heatmaps(
        folder / "maps.npz",
        [(label, heat) for label in labels],  # named as the pipeline names them
        preprocessing=Preprocessing(margin=0.05),
        image_sha256="5" * 64,
    )
    image = ExplainedImage(
        Result.from_row(row), options or {"colormap": "inferno"}, overlay, folder / "maps.npz", "5" * 64
    )
    made = list(make_objects(source, image, kinds, _Revises(predecessor), **how))
    expected = {"capture": 1, "map": len(labels), "report": 1}
    assert [found.kind for found in made] == [
        kind for kind, count in expected.items() for _ in range(count) if kind in kinds
    ]
    return {found.kind: found for found in made}


class _Revises(NoHistory):
    def __init__(self, predecessor: Predecessor | None) -> None:
        self._predecessor = predecessor

    def predecessor_of(self, uid: str) -> Predecessor | None:
        return self._predecessor


def assert_valid(made: dict[str, ResultObject], folder: Path) -> None:
    for kind, found in made.items():
        file = folder / f"{kind}-made.dcm"
        file.write_bytes(found.made.content())
        assert dciodvfy_errors(file) == [], kind
        assert dicom_validator_errors(file) == [], kind


@pytest.mark.parametrize("more", [{}, NOTHING_KNOWN, AWKWARD], ids=["all", "nothing-known", "awkward"])
def test_objects_are_valid(tmp_path: Path, more: dict[str, Any]) -> None:
    source = source_of(tmp_path)
    assert_valid(objects(source, tmp_path, ROW | more, predecessor=Predecessor("2.25.1", "2.25.2")), tmp_path)
    assert_valid(objects(source, tmp_path, ROW | more, frozenset({"capture"}), rle=True), tmp_path)


def test_a_caption_is_drawn_where_the_overlay_has_none_and_never_twice(tmp_path: Path) -> None:
    source, kinds = source_of(tmp_path), frozenset({"capture"})
    plain = objects(source, tmp_path, kinds=kinds, options={"caption": False})["capture"].made.dataset
    captioned = objects(source, tmp_path, kinds=kinds, options={"caption": True})["capture"].made.dataset
    assert plain.Rows > source.rows
    assert (captioned.Rows, captioned.Columns) == (source.rows, source.columns)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_objects_of_sources_of_every_encoding_and_of_bare_headers_are_valid(
    tmp_path: Path, syntax: str
) -> None:
    uids = {name: f"1.2.3.{number}" for number, name in enumerate(("StudyInstanceUID", "SeriesInstanceUID"))}
    bare = dicom(picture(), syntax, BitsStored=12, **uids)
    assert_valid(objects(source_of(tmp_path, bare), tmp_path), tmp_path)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample DICOM files are not beside the project")
def test_objects_of_sample_files_are_valid(tmp_path: Path) -> None:
    count = 0
    for name, entry in json.loads((SAMPLES / "expected.json").read_text()).items():
        if entry["must"] == "explain":
            source = read_source(SAMPLES, name, None, Limits())
            assert source is not None
            kinds = frozenset(KINDS if source.is_as_stored else ("capture", "report"))
            assert_valid(objects(source, tmp_path, kinds=kinds), tmp_path)
            count += 1
    assert count == 19


def test_source_in_an_archive_is_read(tmp_path: Path) -> None:
    content = studies(tmp_path / "drawn", 1)[0]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("b/c.dcm", content)
    source = read_source(tmp_path, "a.zip!/b/c.dcm", hashlib.sha256(content).hexdigest(), Limits())
    assert source is not None
    assert source.uid == dcmread(io.BytesIO(content)).SOPInstanceUID


def test_validators_notice_what_is_wrong(tmp_path: Path) -> None:
    made = objects(source_of(tmp_path), tmp_path)
    for kind, missing in (
        ("capture", "ConversionType"),
        ("report", "CompletionFlag"),
        ("map", "ContentLabel"),
    ):
        dataset = made[kind].made.dataset
        del dataset[missing]
        dataset.save_as(tmp_path / "broken.dcm")
        assert dciodvfy_errors(tmp_path / "broken.dcm"), kind
        assert dicom_validator_errors(tmp_path / "broken.dcm"), kind


def test_repeat_is_the_same_object_to_the_byte(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    first, second = objects(source, tmp_path), objects(source_of(tmp_path), tmp_path)
    for kind in KINDS:
        assert first[kind].made.content() == second[kind].made.content()


@pytest.mark.parametrize("keyword", ["PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"])
def test_objects_of_another_patient_or_study_are_other_objects(tmp_path: Path, keyword: str) -> None:
    first = objects(source_of(tmp_path), tmp_path)
    dataset = dcmread(tmp_path / "a.dcm")
    dataset[keyword].value = "19000101" if "Date" in keyword else "1.2.3.4"
    corrected = objects(source_of(tmp_path, written(dataset)), tmp_path)
    for kind in KINDS:
        assert corrected[kind].made.dataset[keyword].value == dataset[keyword].value
        assert corrected[kind].made.uid != first[kind].made.uid


def test_series_are_of_kind_and_model_version_and_objects_of_what_they_say(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    first = objects(source, tmp_path)
    newer = objects(source, tmp_path, ROW | {"model_version": "tb-4"})
    revised = objects(source, tmp_path, ROW | {"threshold": 90.0, "decision": "do-not-refer"})
    series = {found.made.series_uid for made in (first, newer, revised) for found in made.values()}
    assert len(series) == 2 * len(KINDS)
    assert first["report"].made.series_uid == revised["report"].made.series_uid
    assert len({made["report"].made.uid for made in (first, newer, revised)}) == 3
    assert first["map"].made.uid == revised["map"].made.uid  # which no threshold changes


def test_objects_say_whose_they_are_what_of_and_that_they_are_not_for_diagnosis(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    made = objects(source, tmp_path, predecessor=Predecessor("2.25.8", "2.25.9"))
    header = dcmread(tmp_path / "a.dcm", stop_before_pixels=True)
    for found in made.values():
        dataset = dcmread(io.BytesIO(found.made.content()))
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "StudyInstanceUID",
            "AccessionNumber",
        ):
            assert dataset[keyword].value == header[keyword].value
        assert dataset.SeriesDescription.endswith("not for diagnosis")
        assert dataset.Manufacturer == "xraycam"
        assert "tb-3" in dataset.SoftwareVersions
    capture = made["capture"].made.dataset
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == header.SOPInstanceUID
    assert capture.BurnedInAnnotation == "YES"
    assert list(capture.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert "model tb-3" in capture.DerivationDescription
    assert capture.DerivationCodeSequence[0].CodeValue == "130403"
    report = made["report"].made.dataset
    values = texts(report)
    assert {"81.5", "50.0", "0.875", "refer", "collimated", "rotated"} <= values
    assert {"layer: block_12_add", "method: gradcam", "model: tb-3"} <= values
    assert {str(header.SOPInstanceUID), str(capture.SOPInstanceUID)} <= values
    earlier = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert earlier.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.9"


def texts(dataset: Dataset) -> set[str]:
    """Every value in a data set, as text."""
    return {str(element.value) for element in dataset.iterall() if element.VR != "SQ"}


def test_map_holds_the_heatmap_where_it_lies_on_the_source(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    dataset = objects(source, tmp_path)["map"].made.dataset
    values = np.frombuffer(dataset.FloatPixelData, np.float32).reshape(source.rows, source.columns)
    margin = round(source.rows * 0.05)
    assert not values[:margin].any()
    assert not values[:, -margin:].any()
    inner = values[margin:-margin, margin:-margin]
    assert inner[0, 0] == 0
    assert inner[-1, -1] == 1
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.RealWorldValueSlope == 2.5
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("130403", "DCM")


@pytest.mark.parametrize(
    ("label", "maxima"),
    [
        ("block_12_add gradcam", {"block_12_add": 2.5}),
        ("block_12_add gradcam", {"out_relu": 7.0, "block_12_add": 2.5}),
        ("block_12_add gradcam", {"block_12_add gradcam": 2.5, "block_12_add scorecam": 7.0}),
        (
            "block_12_add gradcam Pleural effusion",
            {"block_12_add Pleural effusion": 2.5, "block_12_add Normal": 7.0},
        ),
        (
            "block_12_add gradcam Normal",
            {"block_12_add gradcam Normal": 2.5, "block_12_add scorecam Normal": 7.0},
        ),
    ],
    ids=["one", "layers", "methods", "classes", "methods-and-classes"],
)
def test_map_has_the_maximum_of_its_own_layer_method_and_class(
    tmp_path: Path, label: str, maxima: dict[str, float]
) -> None:
    row = ROW | {"heatmap_max": maxima}
    assert slope_of(objects(source_of(tmp_path), tmp_path, row, labels=[label])["map"]) == 2.5


def slope_of(found: ResultObject) -> float:
    (mapping,) = found.made.dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    return float(mapping.RealWorldValueSlope)


def test_map_without_its_maximum_states_no_values_before_scaling(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    with pytest.raises(ExportError, match="block_12_add gradcam") as caught:
        objects(source, tmp_path, ROW | {"heatmap_max": {"out_relu": 2.5}})
    assert caught.value.reason == "no-map"
    unknown = objects(source, tmp_path, ROW | {"heatmap_max": None})["map"]
    said = unknown.made.dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert said.LUTExplanation.endswith("scaled to 1 at its maximum")
    assert unknown.made.uid != objects(source, tmp_path)["map"].made.uid


def test_names_of_every_alphabet_arrive(tmp_path: Path) -> None:
    content = written_with_names("ISO_IR 192", "山田^太郎=やまだ^たろう")
    source = source_of(tmp_path, content)
    dataset = dcmread(io.BytesIO(objects(source, tmp_path)["capture"].made.content()))
    assert str(dataset.PatientName) == "山田^太郎=やまだ^たろう"


def written_with_names(charset: str, name: str) -> bytes:
    dataset = dcmread(io.BytesIO(dicom(picture(), BitsStored=12)))
    dataset.SpecificCharacterSet = charset
    dataset.PatientName = name
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.4"
    return written(dataset)


@pytest.mark.filterwarnings("error")
def test_nobody_is_named_in_warnings_or_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    source = source_of(tmp_path, written_with_names("ISO_IR 192", "Einname"))
    objects(source, tmp_path)
    said = "".join(capfd.readouterr()) + caplog.text + repr(source)
    assert "Einname" not in said


def test_sources_that_cannot_be_used_are_refused_with_a_reason(tmp_path: Path) -> None:
    def reason(path: str = "a.dcm", sha256: str | None = None) -> str:
        with pytest.raises(ExportError) as caught:
            read_source(tmp_path, path, sha256, Limits())
        return caught.value.reason

    assert reason() == "unreadable-source"
    (tmp_path / "a.dcm").write_bytes(dicom(picture(), BitsStored=12))
    assert reason() == "no-study"
    assert reason(sha256="0" * 64) == "changed-source"
    assert reason("../a.dcm") == "unreadable-source"
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    assert read_source(tmp_path, "a.png", None, Limits()) is None


def test_own_captures_are_no_sources(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    (tmp_path / "capture.dcm").write_bytes(objects(source, tmp_path)["capture"].made.content())
    with pytest.raises(ImageError, match="result of xraycam") as caught:
        read_radiograph(tmp_path / "capture.dcm", Limits())
    assert caught.value.reason == "not-radiograph"


def test_caption_of_a_score_just_below_its_threshold_does_not_contradict_its_decision() -> None:
    near = Result.from_row(ROW | {"score": 27.97, "threshold": 28.0, "decision": "do-not-refer"})
    assert "score 27.97 of 100, operating point 28.00, decision: do-not-refer" in near.caption()[1]


def test_each_finding_that_is_seen_is_named_in_report_and_caption(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    two = ROW | {
        "class": "Bar",
        "probability": 0.91,
        "probabilities": {"Disc": 0.62, "Bar": 0.91, "Cross": 0.4},
    }
    result = Result.from_row(two)
    assert "Bar 91.0%, Disc 62.0%" in result.caption()[1]
    report = objects(source, tmp_path, two)["report"].made.dataset
    said = [item.to_json() for item in report.ContentSequence]
    assert sum(text.count("Predicted class") for text in said) == 2
    one = two | {"probabilities": {"Disc": 0.09, "Bar": 0.91}}
    assert Result.from_row(one).predicted == (("Bar", 0.91),)
    none = two | {"class": "no finding", "probability": None, "probabilities": {"Disc": 0.2, "Bar": 0.1}}
    assert Result.from_row(none).predicted == (("no finding", None),)


def test_a_report_names_the_blank_maps_where_others_hold_evidence(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    row = ROW | {"layer": "block_12_add,out_relu", "heatmap_max": {"block_12_add": 2.5, "out_relu": 0.0}}
    result = Result.from_row(row)
    assert "blank maps: out_relu" in result.caption()
    report = objects(source, tmp_path, row, frozenset({"report"}))["report"].made.dataset
    said = "".join(item.to_json() for item in report.ContentSequence)
    assert "blank: out_relu" in said
    assert "no positive evidence" not in said
    whole = Result.from_row(row | {"blank": True, "heatmap_max": {"block_12_add": 0.0, "out_relu": 0.0}})
    assert (whole.blank, whole.blank_maps) == (True, ())
