"""Thresholds belong to a site and a version; distributions are counted by the database."""

from __future__ import annotations

import pytest

from db.deletion import delete_model
from db.distributions import count_below
from db.errors import ModelNotFound
from db.leases import record_results
from db.ledger import Ledger
from db.models import add_model
from db.operating_points import save_site_threshold, site_threshold, sites_without, versions_of_site
from db.results import Filter, read_predictions
from db.runs import Run, count_by_decision
from tests.support.ledger_writes import model
from tests.support.made_runs import lease


def save(ledger: Ledger, site: str, version: str, threshold: float, digest: str = "0" * 64) -> None:
    ledger.write(
        save_site_threshold,
        site=site,
        model_version=version,
        digest=digest,
        threshold=threshold,
        figures={"of": site},
    )


def test_a_threshold_is_that_of_its_site_and_version_alone(ledger: Ledger) -> None:
    for version in ("one", "two"):
        model(ledger, version)
    save(ledger, "north", "one", 40.0)
    save(ledger, "south", "two", 20.0)
    save(ledger, "north", "one", 45.0)
    with ledger.read() as connection:
        found = site_threshold(connection, "north", "one")
        assert found is not None
        assert (found.threshold, found.figures) == (45.0, {"of": "north"})
        assert site_threshold(connection, "north", "two") is None
        assert site_threshold(connection, "south", "one") is None
        assert versions_of_site(connection, "north") == ["one"]
        assert sites_without(connection, "two") == ["north"]
        assert sites_without(connection, "three") == ["north", "south"]


def test_a_threshold_goes_with_its_version_and_is_not_saved_for_another_of_its_name(ledger: Ledger) -> None:
    for version in ("one", "two"):
        model(ledger, version, promote=version == "two")
        save(ledger, "north", version, 40.0)
    save(ledger, "south", "one", 20.0)
    assert ledger.write(delete_model, "one") == ["north", "south"]
    with pytest.raises(ModelNotFound, match="one was deleted or replaced while its threshold was measured"):
        save(ledger, "north", "one", 40.0)
    ledger.write(add_model, version="one", digest="1" * 64, classes=("a", "b"), source="s", metrics={})
    with ledger.read() as connection:
        assert site_threshold(connection, "north", "one") is None
        assert versions_of_site(connection, "north") == ["two"]
        assert versions_of_site(connection, "south") == []
    with pytest.raises(ModelNotFound):
        save(ledger, "north", "one", 40.0)
    save(ledger, "north", "one", 40.0, digest="1" * 64)


def test_values_below_each_edge_are_counted_in_the_database(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    scores = [5.0, 10.0, 30.0, None]
    ledger.write(
        record_results,
        held,
        [
            {
                "image_id": image.id, "status": "done", "model_version": "one", "score": score,
                "brightness": 100.0, "decision": "refer" if score == 30.0 else "do-not-refer",
            }
            for image, score in zip(held.images, scores, strict=True)
        ],
    )  # fmt: skip
    edges = {"score": (10.0, 20.0), "brightness": (100.5,)}
    with ledger.read() as connection:
        found = count_below(connection, run_of_ten.id, "one", edges)
        assert found == {"score": (3, [1, 2]), "brightness": (4, [4])}
        assert count_below(connection, run_of_ten.id, "two", edges)["score"] == (0, [0, 0])
        assert count_below(connection, run_of_ten.id, "one", {}) == {}
    assert ledger.query(count_by_decision, run_of_ten.id) == {"refer": 1, "do-not-refer": 3}
    above = list(read_predictions(ledger, Filter(run=run_of_ten.id, min_score=10.0)))
    assert [row["score"] for row in above] == [10.0, 30.0]
