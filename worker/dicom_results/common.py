"""What all our DICOM objects have in common: whose they are, when and by whom made, and of which image."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from worker.dicom_results.equipment import MANUFACTURER, NOT_FOR_DIAGNOSIS, software_version, uid_of
from worker.dicom_results.result import Result
from worker.dicom_results.source import ALWAYS, Source

_IMPLEMENTATION = uid_of("implementation")
_LONGEST_TEXT = 1024


@dataclass(frozen=True)
class Made:
    """A finished object. `dataset` is never shown: it holds the patient's identity."""

    dataset: Any = field(repr=False)

    @property
    def uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @property
    def series_uid(self) -> str:
        return str(self.dataset.SeriesInstanceUID)

    def content(self) -> bytes:
        """As a DICOM file (PS3.10)."""
        stream = io.BytesIO()
        self.dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """The item of a code sequence."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def map_code(method: str) -> tuple[str, str, str]:
    """The kind of map that methods, separated by commas, make: value, scheme, meaning (PS3.16, CID 217)."""
    if all("cam" in name and name not in ("eigencam", "scorecam") for name in method.split(",")):
        return "130403", "DCM", "Gradient-weighted class activation"
    return "130401", "DCM", "Visual explanation"


def nameless(source: Source) -> Dataset:
    """The source as highdicom takes it, without the patient: highdicom quotes names in its warnings. Nor does
    it say of what modality it is, for which highdicom demands more."""
    dataset = Dataset()
    for keyword in ALWAYS:
        setattr(dataset, keyword, "")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        setattr(dataset, keyword, source.identity[keyword].value)
    dataset.Modality = "OT"
    dataset.Rows, dataset.Columns = source.rows, source.columns
    return dataset


def add_reference_to_source(dataset: Dataset, source: Source, result: Result) -> None:
    """Say in an image of ours which image it is derived from, and how (PS3.3, C.12.4)."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.identity.SOPClassUID
    item.ReferencedSOPInstanceUID = source.uid
    item.PurposeOfReferenceCodeSequence = [
        code("121322", "DCM", "Source Image for Image Processing Operation")
    ]
    dataset.SourceImageSequence = [item]
    dataset.DerivationDescription = (
        f"{result.method} class activation map at {result.layer} of class {result.target_class}, laid over "
        f"the image; {MANUFACTURER} {software_version()}, model {result.model_version}; {NOT_FOR_DIAGNOSIS}"
    )[:_LONGEST_TEXT]
    dataset.DerivationCodeSequence = [code(*map_code(result.method))]


def finish(dataset: Any, source: Source, result: Result) -> Made:
    """Give an object the patient and study of its source, and times that a repeat gives again."""
    for element in source.identity:
        if element.keyword not in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
            dataset[element.tag] = element
    moment = source.local_time(result.finished_at)
    for what in ("InstanceCreation", "Content"):
        if what == "InstanceCreation" or f"{what}Date" in dataset:
            setattr(dataset, f"{what}Date", moment.strftime("%Y%m%d"))
            setattr(dataset, f"{what}Time", moment.strftime("%H%M%S"))
    if source.time_offset is not None:
        dataset.TimezoneOffsetFromUTC = source.time_offset
    for item in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    dataset.file_meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    dataset.file_meta.ImplementationVersionName = f"XRAYCAM_{software_version()}"[:16]
    return Made(dataset)
