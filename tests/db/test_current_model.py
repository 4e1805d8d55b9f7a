"""Models: which exist, and which is current."""

from __future__ import annotations

from typing import Any

import pytest

from db.errors import ModelNotFound
from db.ledger import Ledger
from db.models import add_model, current_model, get_model, list_models, promote_model, rollback_model


def add(ledger: Ledger, version: str, promote: bool = False, **other: Any) -> None:
    values = {"digest": "ab" * 32, "classes": ("Normal", "Tuberculosis"), "source": "a test", "metrics": {}}
    ledger.write(add_model, version=version, promote=promote, **(values | other))


def current(ledger: Ledger) -> str | None:
    model = ledger.query(current_model)
    return None if model is None else model.version


def test_model_is_kept_as_it_was_added(ledger: Ledger) -> None:
    add(ledger, "first", metrics={"auc": 0.95})
    model = ledger.query(get_model, "first")
    assert (model.classes, model.metrics) == (("Normal", "Tuberculosis"), {"auc": 0.95})
    assert model.created_at.tzinfo is not None
    assert model.promoted_at is None


def test_no_model_is_current_until_one_is_promoted(ledger: Ledger) -> None:
    assert current(ledger) is None
    add(ledger, "first")
    assert current(ledger) is None
    ledger.write(promote_model, "first")
    assert current(ledger) == "first"


def test_model_promoted_last_is_current_however_fast_one_follows_the_other(ledger: Ledger) -> None:
    versions = ["c", "b", "a"]
    for version in versions:
        add(ledger, version)
    for version in versions * 5:
        ledger.write(promote_model, version)
        assert current(ledger) == version
    add(ledger, "0", promote=True)
    assert current(ledger) == "0"


def test_version_that_is_known_stays_as_it_is(ledger: Ledger) -> None:
    add(ledger, "first")
    add(ledger, "second", promote=True)
    add(ledger, "first", promote=True, digest="cd" * 32)
    assert ledger.query(get_model, "first").digest == "ab" * 32
    assert current(ledger) == "second"


def test_rollback_returns_to_the_one_before(ledger: Ledger) -> None:
    for version in ("a", "b", "c"):
        add(ledger, version, promote=True)
    assert ledger.write(rollback_model) == ("c", "b")
    assert ledger.write(rollback_model) == ("b", "a")
    with pytest.raises(ModelNotFound, match="no other model was current before"):
        ledger.write(rollback_model)
    assert current(ledger) == "a"
    ledger.write(promote_model, "c")
    assert current(ledger) == "c"


def test_models_are_listed_newest_first(ledger: Ledger) -> None:
    for version in ("a", "b"):
        add(ledger, version)
    assert {model.version for model in ledger.query(list_models)} == {"a", "b"}


def test_unknown_version_is_told_with_those_known(ledger: Ledger) -> None:
    with pytest.raises(ModelNotFound, match="there is no model 'x'; known: none yet"):
        ledger.query(get_model, "x")
    add(ledger, "first")
    with pytest.raises(ModelNotFound, match="there is no model 'x'; known: first"):
        ledger.write(promote_model, "x")
