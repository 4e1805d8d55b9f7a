"""The parametric map: the raw heatmap in numbers, pixel by pixel over its source."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset

from worker.dicom_results.common import Made, code, finish, map_code, nameless
from worker.dicom_results.equipment import MANUFACTURER, series_description, software_version, uid_of
from worker.dicom_results.result import Result
from worker.dicom_results.source import Source

SERIES_NUMBER = 9803
_LABEL = 16

Floats = np.ndarray[Any, np.dtype[np.float32]]


def laid_over(heatmap: Floats, margin: float, rows: int, columns: int) -> Floats:
    """`heatmap`, float (h, w) in 0..1, as float32 (rows, columns): 0 in the margin that the network did not
    see, bilinear within, with half-pixel centres, as in the overlay."""
    left, upper = round(columns * margin), round(rows * margin)
    right, lower = round(columns * (1 - margin)), round(rows * (1 - margin))
    inner = Image.fromarray(heatmap.astype(np.float32)).resize(
        (right - left, lower - upper), Image.Resampling.BILINEAR
    )
    whole = np.zeros((rows, columns), np.float32)
    whole[upper:lower, left:right] = np.asarray(inner)
    return whole


def make_map(
    source: Source,
    result: Result,
    uids: tuple[str, str],
    number: int,
    name: str,
    values: Floats,
    maximum: float | None,
) -> Made:
    """A map of `values`, float32 (rows, columns) of the source in 0..1, as the `number`th of its series.

    Its real world values are those before scaling to 1, by their `maximum`; without one they are `values`,
    and it says so.
    """
    from highdicom.content import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.sr.coding import Code

    reference = nameless(source)
    # A radiograph has no place in the patient, yet maps must have one: a frame of reference for this image
    # alone, in which rows run to the left and columns to the feet, from the origin, in steps of a millimetre.
    reference.FrameOfReferenceUID = uid_of("frame", source.uid)
    reference.PositionReferenceIndicator = ""
    reference.ImagePositionPatient = [0, 0, 0]
    reference.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    reference.PixelSpacing = [1, 1]
    reference.SliceThickness = 1
    slope = maximum or 1.0  # of a blank map, which is 0 everywhere, a slope of 0 would be no mapping
    scaled = "scaled to 1 at its maximum" if maximum is None else "before scaling"
    value, scheme, meaning = map_code(result.method)
    dataset = ParametricMap(
        source_images=[reference],
        pixel_array=values,
        series_instance_uid=uids[0],
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids[1],
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=software_version(),
        device_serial_number="none",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label="HEAT",
                lut_explanation=f"{meaning} {scaled}"[:64],
                unit=Code("1", "UCUM", "no units"),
                value_range=(0.0, 1.0),
                slope=slope,
                intercept=0.0,
                quantity_definition=Code(value, scheme, meaning),
            )
        ],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="HEATMAP",
        content_description=f"{name}, not for diagnosis"[-64:],
        series_description=series_description("map", result.model_version),
    )
    dataset["SoftwareVersions"].value = [software_version(), result.model_version]
    dataset.LossyImageCompression = "00"
    # highdicom makes one by chance.
    organization = uid_of("dimensions", uids[1])
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    dataset.ContentCreatorName = ""
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [code("51185008", "SCT", "Chest")]
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    return finish(dataset, source, result)
