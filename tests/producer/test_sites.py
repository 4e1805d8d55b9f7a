"""A run that names a site gets the threshold of that site for its version, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.ledger import Ledger
from db.operating_points import save_site_threshold
from producer.enqueue import Request, check_request, enqueue
from tests.support.ledger_writes import model
from worker.errors import XraycamError
from worker.explain.options import ExplainOptions
from worker.model.metadata import digest_of, read_metadata
from worker.model.store import STARTER
from worker.settings import load_settings

VERSION = read_metadata(STARTER).version


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "x.png").write_bytes(b"x")
    return folder


def save(ledger: Ledger, version: str, digest: str) -> None:
    ledger.write(
        save_site_threshold, site="north", model_version=version, digest=digest, threshold=41.5, figures={}
    )


@pytest.mark.usefixtures("home")
def test_a_site_without_a_threshold_for_the_version_is_refused_with_the_command_to_make_one(
    ledger: Ledger, archive: Path
) -> None:
    model(ledger, "older")
    save(ledger, "older", "0" * 64)
    request = Request(archive, ExplainOptions(site="north"))
    with pytest.raises(XraycamError, match=f"calibrate DATASET --model {VERSION} --site north") as refusal:
        check_request(ledger, load_settings(), request)
    assert "older, which does not hold for another version" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    save(ledger, VERSION, digest_of(STARTER))
    assert check_request(ledger, load_settings(), request)[2].threshold == 41.5


@pytest.mark.usefixtures("home")
def test_a_run_with_a_threshold_keeps_its_version_and_another_threshold_is_another_run(
    ledger: Ledger, archive: Path
) -> None:
    settings = load_settings()
    plain = enqueue(ledger, settings, Request(archive))
    first = enqueue(ledger, settings, Request(archive, ExplainOptions(threshold=30.0)))
    second = enqueue(ledger, settings, Request(archive, operating_point="sensitivity-90"))
    assert plain.run.pinned_model is None
    assert first.run.pinned_model == second.run.pinned_model == VERSION
    assert len({plain.run.id, first.run.id, second.run.id}) == 3
    named = enqueue(ledger, settings, Request(archive, ExplainOptions(threshold=30.0), model=VERSION))
    assert named.run.id == first.run.id
    point = read_metadata(STARTER).require_operating_point("sensitivity-90")
    assert second.run.options["threshold"] == point.threshold


@pytest.mark.usefixtures("home")
def test_two_thresholds_and_unknown_operating_points_are_refused(ledger: Ledger, archive: Path) -> None:
    settings = load_settings()
    with pytest.raises(XraycamError, match="--site and --threshold: each sets the threshold"):
        check_request(ledger, settings, Request(archive, ExplainOptions(site="north", threshold=3.0)))
    with pytest.raises(XraycamError, match="sensitivity-90, sensitivity-95, specificity-70"):
        check_request(ledger, settings, Request(archive, operating_point="sensitivity-99"))
