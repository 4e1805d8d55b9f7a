"""A query that a server would pass over, so that it gave the whole archive, is refused before it is asked."""

from __future__ import annotations

import pytest

from producer.pacs.fetch import fetch, search
from producer.pacs.query import check_query
from worker.errors import XraycamError
from worker.settings import load_settings

# Nobody listens there, and nobody is to be asked.
NOBODY = "dicomweb+http://127.0.0.1:9/dicom-web"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("ask", [fetch, search])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("PatientId=1001", "'PatientId', which is no keyword of DICOM.*did you mean PatientID"),
        ("ModalitiesInStudy=DX&StudyDat=20260101", "'StudyDat', which is no.*did you mean StudyDate"),
        ("hospital=north", "'hospital', which is no keyword"),
        ("PatientID=", "no value for PatientID, so that it finds every study"),
        ("PatientID=*", "no value for PatientID"),
        ("PatientID=1001&limit=1", "limit in the query would choose any studies"),
        ("offset=2", "offset in the query"),
    ],
)
def test_a_query_that_means_every_study_is_refused(ask: object, query: str, said: str) -> None:
    assert callable(ask)
    with pytest.raises(XraycamError, match=said):
        ask(f"{NOBODY}?{query}", load_settings())


def test_keywords_tags_sequences_and_options_are_asked_for() -> None:
    keys = ("PatientID", "00100020", "RequestAttributesSequence.ScheduledProcedureStepID", "includefield")
    check_query([*((key, "1*") for key in keys), ("StudyDate", "20260101-"), ("fuzzymatching", "true")])
    check_query([])
