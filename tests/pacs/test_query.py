"""A query that a server would pass over, so that it gave the whole archive, is refused before it is asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from producer.pacs.fetch import FetchCounts, fetch, search
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


class _Archive(BaseHTTPRequestHandler):
    """A server that has 130 studies without a series, and gives so many at once, from the first on."""

    most = 130

    def do_GET(self) -> None:
        studies = [{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(self.most)]
        content = json.dumps([] if self.path.partition("?")[0].endswith("/series") else studies).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if self.most < 130:
            self.send_header("Warning", '299 {SERVICE}: "There are additional results"')
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def counts_of(most: int) -> FetchCounts:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Archive", (_Archive,), {"most": most}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return search(f"dicomweb+http://127.0.0.1:{server.server_port}", load_settings())
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("home")
def test_matches_that_a_server_keeps_back_are_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XRAYCAM_DICOMWEB_RATE", "10000")
    load_settings.cache_clear()
    whole = counts_of(130)
    assert (whole.studies, list(whole.warnings)) == (130, [])
    with pytest.raises(XraycamError, match="gives 100 matches and the same ones again"):
        counts_of(100)
    part = counts_of(50)
    assert (part.studies, "additional results" in part.line()) == (50, True)
