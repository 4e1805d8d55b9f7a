"""The structured report: what was found, by which model and at which operating point (TID 1500)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from worker.dicom_results.common import Made, finish, nameless
from worker.dicom_results.equipment import MANUFACTURER, series_description, software_version, uid_of
from worker.dicom_results.result import Result
from worker.dicom_results.source import Source

SERIES_NUMBER = 9802
SCHEME = "99XRAYCAM"
_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
_MAP = "1.2.840.10008.5.1.4.1.1.30"
_SHORT, _LONG = 16, 64


@dataclass(frozen=True)
class Predecessor:
    """An earlier report about the same image by the same model: UIDs of its series and of itself."""

    series_uid: str
    uid: str


def make_report(
    source: Source,
    result: Result,
    uids: tuple[str, str],
    images: Sequence[Dataset],
    predecessor: Predecessor | None = None,
) -> Made:
    """A Comprehensive 3D SR with `uids` of series and instance that refers to the source and to `images`
    (of ours, of the same study). It is preliminary, complete and not verified by anybody."""
    from highdicom.sr import (
        AlgorithmIdentification,
        Comprehensive3DSR,
        DeviceObserverIdentifyingAttributes,
        FindingSite,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    evidence = [nameless(source), *images]
    parameters = [
        f"{name}: {value}"
        for name, value in (
            ("layer", result.layer),
            ("method", result.method),
            ("explained class", result.target_class),
            ("model", result.model_version),
        )
        if value
    ]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=uid_of("tracking", source.uid, result.model_version), identifier=f"{MANUFACTURER} result"
        ),
        algorithm_id=AlgorithmIdentification(
            name=MANUFACTURER,
            version=f"{software_version()}, model {result.model_version}",
            parameters=parameters,
            family=Code("123110", "DCM", "Artificial Intelligence"),
            manufacturer=MANUFACTURER,
        ),
        finding_sites=[FindingSite(Code("51185008", "SCT", "Thorax"))],
        measurements=_measurements(result),
        qualitative_evaluations=_evaluations(result),
        source_images=[SourceImageForMeasurementGroup.from_source_image(evidence[0])],
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(
                observer_type=codes.DCM.Device,
                observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                    uid=uid_of("device", result.model_version),
                    name=MANUFACTURER,
                    manufacturer_name=MANUFACTURER,
                    model_name=result.model_version[:_LONG],
                ),
            )
        ),
        procedure_reported=Code("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=[group],
        # highdicom knows no modality of maps, which are evidence all the same.
        referenced_images=[image for image in evidence if image.SOPClassUID != _MAP],
    )
    dataset = Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=uids[0],
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=(software_version(), result.model_version),
        series_description=series_description("report", result.model_version),
        specific_character_set="ISO_IR 192",
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=None if predecessor is None else [_earlier(source, predecessor)],
    )
    dataset.CodingSchemeIdentificationSequence = [_scheme()]
    return finish(dataset, source, result)


def _measurements(result: Result) -> list[Any]:
    from highdicom.sr import Measurement
    from pydicom.sr.coding import Code

    no_units, percent_points = Code("1", "UCUM", "no units"), Code("{0:100}", "UCUM", "range: 0:100")
    found = []
    if result.probability is not None:
        name = Code("probability", SCHEME, "Probability of the predicted class")
        found.append(Measurement(name=name, value=result.probability, unit=no_units))
    for class_name, value in result.probabilities.items():
        name = _own_code(f"P({class_name})", f"Probability of {class_name}")
        found.append(Measurement(name=name, value=value, unit=no_units))
    if result.score is not None:
        name = Code("score", SCHEME, "Calibrated score of the positive class")
        found.append(Measurement(name=name, value=result.score, unit=percent_points))
    if result.threshold is not None:
        name = Code("operating-point", SCHEME, "Operating point: refer from this score on")
        found.append(Measurement(name=name, value=result.threshold, unit=percent_points))
    return found


def _evaluations(result: Result) -> list[Any]:
    from highdicom.sr import QualitativeEvaluation
    from pydicom.sr.coding import Code

    said = [("class", "Predicted class", name or "none") for name, _ in result.predicted]
    if result.decision is not None:
        said.append(("decision", "Decision at the operating point", result.decision))
    if result.odd is not None:
        said += [("odd", "Odd about the image", word) for word in (result.odd or ("nothing",))]
    if result.blank:
        said.append(("map", "Class activation map", "blank: no positive evidence for the class"))
    said += [("map", "Class activation map", f"blank: {name}") for name in result.blank_maps]
    return [
        QualitativeEvaluation(name=Code(value, SCHEME, meaning), value=_own_code(answer, answer))
        for value, meaning, answer in said
    ]


def _own_code(name: str, meaning: str) -> Any:
    """A code for a name that users choose, such as a class: itself where it may be a code, else a hash."""
    from pydicom.sr.coding import Code

    value = name if re.fullmatch(r"[A-Za-z0-9._()-]{1,16}", name) else ""
    value = value or hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:_SHORT]
    shown = "".join(letter for letter in meaning if letter.isprintable() and letter != "\\")
    # 64 letters by the standard, but some count bytes.
    shown = shown.encode("utf-8", "replace")[:_LONG].decode("utf-8", "ignore")
    return Code(value, SCHEME, shown.strip() or "unnamed")


def _earlier(source: Source, predecessor: Predecessor) -> Dataset:
    item = Dataset()
    item.SOPClassUID = _SOP_CLASS
    item.SOPInstanceUID = predecessor.uid
    item.SeriesInstanceUID = predecessor.series_uid
    item.StudyInstanceUID = source.study_uid
    return item


def _scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = f"{MANUFACTURER}: names of classes, scores and decisions"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item
