"""Who is one patient: by ID, and by who issued it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.made_dicom import FOUR, TINY, dicom
from worker.images.dicom import decode_dicom
from worker.serve.identity import identity_columns

KEY = bytes(32)


def patient(**tags: Any) -> str | None:
    facts = decode_dicom(dicom(FOUR, **tags), "it", TINY).facts
    found: str | None = identity_columns(facts, KEY)["patient"]
    return found


def test_one_id_of_two_hospitals_is_two_patients() -> None:
    north, south = (patient(PatientID="1001", IssuerOfPatientID=one) for one in ("NORTH", "SOUTH"))
    assert len({north, south, patient(PatientID="1001"), patient(PatientID="1002")}) == 4
    assert north == patient(PatientID="1001 ", IssuerOfPatientID="NORTH ")


@pytest.mark.parametrize(
    "tags", [{}, {"IssuerOfPatientID": "NORTH"}, {"PatientID": "", "IssuerOfPatientID": "NORTH"}]
)
def test_an_issuer_without_an_id_names_no_patient(tags: dict[str, str]) -> None:
    assert patient(**tags) is None
