"""What a DICOM header is refused for, what is not held against it, and that identity stays out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.support.made_dicom import (
    EXPLICIT,
    FOUR,
    IMPLICIT,
    TINY,
    decode,
    dicom,
    elements,
    item,
    refused,
    written,
)
from worker.images.dicom import ACCEPTABLE, decode_dicom

STORAGE = "1.2.840.10008.5.1.4.1.1."


def reason(accept: str = "", **tags: Any) -> str | None:
    """Why the file of these tags is refused; None if it is read."""
    content = dicom(FOUR, **tags)
    if not accept:
        try:
            decode_dicom(content, "a.dcm", TINY)
        except Exception:  # told below
            return refused(content).reason
        return None
    decode_dicom(content, "a.dcm", TINY, frozenset({accept}))
    return None


# Radiographs


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "OT", "cr", "", None])
def test_radiographs_are_read(modality: str | None) -> None:
    assert reason(Modality=modality) is None


@pytest.mark.parametrize("modality", ["CT", "MR", "MG", "US", "SR", "PR", "XA", "RF", "PX", "IO", "NM", "ZZ"])
def test_other_modalities_are_no_radiographs(modality: str) -> None:
    assert reason(Modality=modality, SOPClassUID=STORAGE + "7") == "not-radiograph"
    assert reason(Modality=modality, SOPClassUID=None) == "not-radiograph"


@pytest.mark.parametrize(
    "number", ["2", "4", "1.2", "88.33", "11.1", "104.1", "66.4", "6.1", "9.1.1", "77.1.4"]
)
def test_other_classes_are_no_radiographs(number: str) -> None:
    assert reason(SOPClassUID=STORAGE + number) == "not-radiograph"
    assert reason(SOPClassUID=STORAGE + number, Modality=None) == "not-radiograph"


@pytest.mark.parametrize("uid", [STORAGE + "1.1", STORAGE + "7", "1.3.6.1.4.1.9.9", None])
def test_classes_of_radiographs_and_private_ones_are_read(uid: str | None) -> None:
    assert reason(SOPClassUID=uid) is None


def test_index_of_a_medium_tells_to_enqueue_its_folder() -> None:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.1.3.10"
    dataset.DirectoryRecordSequence = [item(DirectoryRecordType="PATIENT")]
    error = refused(written(dataset))
    assert error.reason == "not-radiograph"
    assert "enqueue its folder" in str(error)


# The body part

CHEST = [
    "CHEST", "chest", "Thorax", "CHEST PA", "CHEST_AP", "PORT CHEST 1V", "TORAX", "TÓRAX", "TORACE",
    "POUMON", "LUNG", "LUNGS", "LUNGE", "BRUSTKORB", "RX TORAX", "RTG KLATKI PIERSIOWEJ",
    "Klatka piersiowa", "HRUDNÍK", "MELLKAS", "GÖĞÜS", "AKCİĞER", "Röntgen-Thorax p.a.", "胸部", "胸",
    "흉부", "ОГК", "Грудная клетка", "ЛЕГКИЕ", "Θώρακας", "صدر", "חזה", "ทรวงอก", "CHESTABDOMEN",
    "CHEST/ABDOMEN", "HEART", "KEUHKOT", "BRYST",
]  # fmt: skip
NO_PART = [
    "", "UNKNOWN", "OTHER", "WHOLEBODY", "N/A", "1", "-", "PORTABLE", None,
]  # fmt: skip
OTHERS = [
    "HIP", "KNEE", "EXTREMITY", "ABDOMEN", "PELVIS", "SKULL", "HAND", "FOOT", "KNIE", "GENOU", "RODILLA",
    "MANO", "MAIN", "HANDGELENK", "SCHULTER", "BECKEN", "BAUCH", "RIB", "RIBS", "STERNUM", "SPINE",
    "TSPINE", "T-SPINE", "THORACIC SPINE", "BWS", "BRUSTWIRBELSÄULE", "COLUMNA DORSAL",
    "RACHIS THORACIQUE", "LSPINE", "CSPINE", "BREAST", "MAMA", "CLAVICLE", "膝", "手", "腰椎", "胸椎",
    "腹部", "무릎", "КОЛЕНО", "КИСТЬ", "Позвоночник", "грудной отдел позвоночника", "ركبة", "FEMUR",
    "ANKLE", "ELBOW", "WRIST", "TOE", "JAW", "XYZZY", "KOLANO",
]  # fmt: skip


@pytest.mark.parametrize("charset", ["ISO_IR 192", None])
@pytest.mark.parametrize("part", CHEST)
def test_chest_is_known_in_many_languages(part: str, charset: str | None) -> None:
    assert part_read(part, "utf-8", charset)


@pytest.mark.parametrize("part", OTHERS)
def test_other_parts_are_no_chest(part: str) -> None:
    assert not part_read(part, "utf-8", "ISO_IR 192")


@pytest.mark.parametrize(
    ("part", "encoding", "charset"),
    [
        ("TÓRAX", "latin-1", "ISO_IR 100"),
        ("Грудная клетка", "iso8859_5", "ISO_IR 144"),
        ("Θώρακας", "iso8859_7", "ISO_IR 126"),
        ("صدر", "iso8859_6", "ISO_IR 127"),
        ("胸部", "gb18030", "GB18030"),
        ("胸部", "iso2022_jp", "\\ISO 2022 IR 87"),
    ],
)
def test_chest_is_known_in_the_character_set_declared(part: str, encoding: str, charset: str) -> None:
    assert part_read(part, encoding, charset)


def part_read(part: str, encoding: str, charset: str | None) -> bool:
    """Whether a file is read whose BodyPartExamined has these bytes, which pydicom would not all write."""
    value = part.encode(encoding)
    value += b" " * (len(value) % 2)
    content = dicom(FOUR, BodyPartExamined="Q" * len(value), SpecificCharacterSet=charset)
    content = content.replace(b"Q" * len(value), value)
    try:
        decode_dicom(content, "a.dcm", TINY)
    except Exception:
        assert refused(content).reason == "not-chest"
        return False
    return True


@pytest.mark.parametrize("part", NO_PART)
def test_no_body_part_is_not_held_against_a_file(part: str | None) -> None:
    assert reason(BodyPartExamined=part) is None


def code(value: str, meaning: str = "", scheme: str = "SCT") -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


@pytest.mark.parametrize("value", ["51185008", "816094009", "39607008", "T-D3000", "T-28000", "R-FAB55"])
def test_codes_of_the_chest_are_known_whatever_their_meaning(value: str) -> None:
    sequence = [code(value, "Struktur", "SRT" if "-" in value else "SCT")]
    assert reason(BodyPartExamined=None, AnatomicRegionSequence=sequence) is None


@pytest.mark.parametrize(
    ("value", "meaning"),
    [("72696002", "Knee"), ("T-D9200", "Genou"), ("122495006", "Thoracic spine"), ("29836001", "")],
)
def test_other_codes_are_no_chest(value: str, meaning: str) -> None:
    sequence = [code(value, meaning)]
    assert reason(BodyPartExamined=None, AnatomicRegionSequence=sequence) == "not-chest"
    assert reason(BodyPartExamined="CHEST", AnatomicRegionSequence=sequence) == "not-chest"


def test_private_code_goes_by_its_meaning() -> None:
    assert reason(AnatomicRegionSequence=[code("TH2", "Thorax", "99LOCAL")]) is None
    assert reason(AnatomicRegionSequence=[code("KN", "Knie", "99LOCAL")]) == "not-chest"


# The view


@pytest.mark.parametrize(
    ("position", "view"),
    [
        ("PA", "PA"),
        ("AP", "AP"),
        ("P.A.", "PA"),
        ("a/p", "AP"),
        ("AP SUPINE", "AP"),
        ("FRONTAL", "frontal"),
        ("POSTERO_ANTERIOR", "PA"),
        ("ANTERO-POSTERIOR", "AP"),
        ("正面", "frontal"),
        ("ERECT", None),
        ("", None),
        (None, None),
    ],
)
def test_frontal_views_and_unknown_ones_are_read(position: str | None, view: str | None) -> None:
    content = dicom(FOUR, ViewPosition="Q" * 16 if position else position)
    if position:
        content = content.replace(b"Q" * 16, position.encode().ljust(16))
    assert decode_dicom(content, "a.dcm", TINY).facts.view == view


@pytest.mark.parametrize(
    "position",
    ["LL", "RL", "LAT", "LATERAL", "LATERO_LATERAL", "L LAT", "PROFIL", "SEITLICH", "PERFIL", "LLD",
     "RLD", "RLO", "LLO", "OBLIQUE", "RAO", "LEFT LATERAL DECUBITUS", "PA/LAT", "BOCZNE"],
)  # fmt: skip
def test_other_views_are_not_frontal(position: str) -> None:
    assert reason(ViewPosition=position) == "not-frontal"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("272479007", None), ("R-10214", None), ("399348003", None), ("R-10206", None), ("R-10202", None),
        ("399067008", "not-frontal"), ("R-10236", "not-frontal"), ("399173006", "not-frontal"),
        ("399135007", "not-frontal"),
    ],
)  # fmt: skip
def test_view_is_known_by_its_code(value: str, expected: str | None) -> None:
    assert reason(ViewCodeSequence=[code(value)]) == expected
    assert reason(ViewPosition="PA", ViewCodeSequence=[code(value)]) == expected


def test_view_from_the_side_is_known_by_the_orientation() -> None:
    assert reason(PatientOrientation=["A", "F"]) == "not-frontal"
    assert reason(PatientOrientation=["P", "F"]) == "not-frontal"
    assert reason(PatientOrientation=["F", "A"]) == "not-frontal"  # the same, lying
    from_below = dicom(FOUR, PatientOrientation=["L", "P"])
    assert refused(from_below, TINY, frozenset({"lateral"})).reason == "not-frontal"


# The rest


def test_raw_data_are_refused() -> None:
    assert reason(PresentationIntentType="FOR PROCESSING") == "for-processing"
    assert reason(SOPClassUID=STORAGE + "1.1.1") == "for-processing"
    assert reason(PresentationIntentType="FOR PRESENTATION") is None


def test_header_without_pixels_is_refused() -> None:
    for syntax in (EXPLICIT, IMPLICIT):
        assert refused(dicom(FOUR, syntax, pixels=b"")).reason == "no-pixels"


@pytest.mark.parametrize(
    ("word", "tags"),
    [
        ("lateral", {"ViewPosition": "LL"}),
        ("any-view", {"ViewPosition": "LL"}),
        ("any-view", {"ViewPosition": "RLO"}),
        ("any-body-part", {"BodyPartExamined": "HIP"}),
        ("for-processing", {"PresentationIntentType": "FOR PROCESSING"}),
    ],
)
def test_what_is_refused_is_read_on_demand(word: str, tags: dict[str, Any]) -> None:
    assert word in ACCEPTABLE
    assert reason(**tags) is not None
    assert word in str(refused(dicom(FOUR, **tags))) or word == "any-view"
    assert reason(accept=word, **tags) is None


def test_patients_whose_ids_begin_alike_are_told_apart() -> None:
    ids = {decode(FOUR, PatientID=name).facts.patient_id for name in ("WARD\\17", "WARD\\18", "WARD")}
    for name in ("\u4e57\u4e00", "\u4e57\u4e8c"):  # the first letter ends in a backslash, in GB18030
        dataset = elements(FOUR, SpecificCharacterSet="GB18030", PatientID=name)
        dataset.PixelData = FOUR.tobytes()
        dataset["PixelData"].VR = "OW"
        ids.add(decode_dicom(written(dataset), "a.dcm", TINY).facts.patient_id)
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("model", "tags"),
    [
        ("Room of Li", {"PatientName": "Li^Bo"}),
        ("Made 01.02.1970", {"PatientBirthDate": "19700201"}),
        ("1970-02-01 DX", {"PatientBirthDate": "19700201"}),
        ("Operated by Meier", {"OperatorsName": "Meier^A"}),
        ("Dr. Maier's", {"ReferringPhysicianName": "MAIER"}),
        ("née Roy", {"PatientBirthName": "Roy^Anna", "SpecificCharacterSet": "ISO_IR 192"}),
    ],
)
def test_a_model_that_names_somebody_is_left_out(model: str, tags: dict[str, Any]) -> None:
    assert decode(FOUR, ManufacturerModelName=model, **tags).facts.model is None


def test_a_model_that_holds_two_letters_of_a_name_is_kept() -> None:
    assert decode(FOUR, ManufacturerModelName="Delight 2", PatientName="Li^Bo").facts.model == "Delight 2"
    assert decode(FOUR, ManufacturerModelName="DX-D 600", AccessionNumber="DX-77").facts.model == "DX-D 600"


def test_facts_are_those_of_the_header() -> None:
    facts = decode(
        FOUR,
        ViewPosition="PA",
        Manufacturer="Maker",
        ManufacturerModelName="Model 1",
        BitsStored=12,
        WindowCenter=150,
        WindowWidth=201,
        BurnedInAnnotation="YES",
        PatientID="77",
        StudyInstanceUID="1.2.1",
        SeriesInstanceUID="1.2.2",
        PatientAge="045Y",
        PatientSex="F",
    ).facts
    assert (facts.view, facts.manufacturer, facts.model, facts.bits_stored) == ("PA", "Maker", "Model 1", 12)
    assert facts.rendering == "window 150/201"
    assert facts.burned_in_annotation == "yes"
    assert (facts.patient_id, facts.study_uid, facts.series_uid) == ("77", "1.2.1", "1.2.2")
    assert (facts.age, facts.sex) == ("045Y", "F")
    assert decode(FOUR).facts.burned_in_annotation == "unknown"


PLANTED = "Zzyzx"
IDENTITY = [
    "PatientName", "PatientID", "AccessionNumber", "StudyDescription", "SeriesDescription",
    "ReferringPhysicianName", "InstitutionName", "PatientComments", "ImageComments", "StudyID",
    "OperatorsName", "StationName", "RequestedProcedureDescription", "ProtocolName",
]  # fmt: skip

READ_ALL = """
import json, logging, sys, warnings
from pathlib import Path
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
logging.captureWarnings(len(sys.argv) > 2)
from worker.errors import ImageError
from worker.images.dicom import decode_dicom
from worker.images.limits import Limits
said = []
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        said.append(repr(decode_dicom(file.read_bytes(), file.name, Limits(min_side=1))))
    except ImageError as error:
        logging.exception("not read")
        said.append(str(error))
print(json.dumps(said))
"""


def test_identity_is_in_no_message_log_or_warning(tmp_path: Path) -> None:
    identity = dict.fromkeys(IDENTITY, PLANTED)
    broken = {"PatientBirthDate": PLANTED, "StudyDate": PLANTED, "StudyTime": PLANTED, "PatientAge": PLANTED}
    hostile = [
        {},
        {"Modality": PLANTED},
        {"BodyPartExamined": PLANTED},
        {"ViewPosition": PLANTED},
        {"PhotometricInterpretation": PLANTED},
        {"SOPClassUID": PLANTED},
        {"SOPClassUID": STORAGE + PLANTED},
        {"StudyInstanceUID": PLANTED, "SOPInstanceUID": PLANTED, "SeriesInstanceUID": PLANTED},
        {"PresentationIntentType": f"PROCESSING {PLANTED}"},
        {"VOILUTFunction": PLANTED, "WindowCenter": 1, "WindowWidth": 9},
        {"PatientOrientation": [PLANTED, PLANTED]},
        {"SpecificCharacterSet": PLANTED},
        {"Rows": 9},
        {"Rows": 1},
        {"PatientSex": PLANTED, "BurnedInAnnotation": PLANTED},
    ]
    for number, tags in enumerate(hostile):
        dataset = elements(FOUR, **{**identity, **broken, **tags})
        dataset.PixelData = FOUR.tobytes()
        content = written(dataset)
        (tmp_path / f"{number}.dcm").write_bytes(content)
        (tmp_path / f"{number}cut.dcm").write_bytes(content[:-30])
        (tmp_path / f"{number}start.dcm").write_bytes(content[: content.rindex(PLANTED.encode()) + 3])
        quoted = content.replace(b"DS", b"US").replace(b"1.2.840.10008.1.2.1\0", PLANTED.encode().ljust(20))
        (tmp_path / f"{number}types.dcm").write_bytes(quoted)
    for captured in ([], ["captured"]):
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", READ_ALL, str(tmp_path), *captured],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert len(json.loads(done.stdout)) == 4 * len(hostile)
        assert PLANTED.lower() not in (done.stdout + done.stderr).lower()
        assert "pydicom" not in done.stderr
