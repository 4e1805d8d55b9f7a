"""A version that comes back under its name with other content is explained as what it is now."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete

from db.ledger import Ledger
from db.migrate import migrate
from db.models import add_model, current_model
from db.schema import models
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.images.preprocess import Pixels
from worker.model.metadata import digest_of, read_metadata
from worker.model.network import load_model
from worker.model.store import ModelStore
from worker.serve.context import ModelManager


class Versions:
    """A worker's models, with a ledger that may hold a version again under the name of a deleted one."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        self.folder = folder
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite3'}")
        migrate(self.ledger)
        self.store = ModelStore(str(folder / "models"), folder / "cache")

    def replace(self, model_folder: Path) -> None:
        if (self.folder / "models" / "small").exists():
            self.ledger.write(lambda connection: connection.execute(delete(models)))
            shutil.rmtree(self.folder / "models")  # copies and passes stay, as on another machine
        self.store.publish(model_folder)
        self.ledger.write(
            add_model,
            version="small",
            digest=digest_of(model_folder),
            classes=read_metadata(model_folder).classes,
            source="test",
            metrics={},
            promote=True,
        )

    def manager(self) -> ModelManager:
        return ModelManager(self.ledger, self.store, "worker", 1)

    def explain(self, manager: ModelManager, batch: Pixels, *, pinned: bool) -> tuple[Any, bool]:
        run: Any = SimpleNamespace(
            options=ExplainOptions().model_dump(mode="json"), pinned_model="small" if pinned else None
        )
        explainer = manager.explainer_for(run, self.ledger.query(current_model))
        return explainer.explain(batch), explainer.is_kept


def changed(model_folder: Path, folder: Path, change: str) -> Path:
    """The same version with another temperature, output, weights or preprocessing."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(model_folder, folder)
    told = json.loads((folder / "model.json").read_text())
    if change == "weights":
        arrays = load_file(folder / "weights.safetensors")
        arrays["score/bias"] = arrays["score/bias"] + np.arange(3, dtype=np.float32)
        save_file(arrays, folder / "weights.safetensors")
        told["weights"]["sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    else:
        told |= {"temperature": {"temperature": 3.0}, "output": {"output": "sigmoid"}}.get(
            change, {"preprocessing": told["preprocessing"] | {"scale": "unit"}}
        )
    (folder / "model.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize("change", ["temperature", "output", "weights", "scale"])
def test_a_version_of_the_same_name_is_never_explained_by_the_pass_of_another(
    change: str, tmp_path: Path, model_folder: Path, batch: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(tmp_path, monkeypatch)
    versions.replace(model_folder)
    manager = versions.manager()
    one, _ = versions.explain(manager, batch, pinned=True)
    again, was_kept = versions.explain(versions.manager(), batch, pinned=True)
    assert was_kept
    assert np.array_equal(again.probabilities, one.probabilities)

    other_folder = changed(model_folder, tmp_path / "other", change)
    versions.replace(other_folder)
    expected = Explainer(*load_model(other_folder)).explain(batch)
    assert not np.allclose(expected.probabilities, one.probabilities, atol=1e-3)
    for asked in (manager, versions.manager()):  # one that knows the old version, and a new process
        found, _ = versions.explain(asked, batch, pinned=True)
        assert np.array_equal(found.probabilities, expected.probabilities)
        for name, heatmap in expected.heatmaps.items():
            assert np.array_equal(found.heatmaps[name], heatmap)
    versions.ledger.close()


def test_a_layer_that_an_earlier_run_asked_for_keeps_no_newer_version_from_serving(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(tmp_path, monkeypatch)
    versions.replace(model_folder)
    manager = versions.manager()
    wanted = read_metadata(model_folder).layers[0].name

    def version_for(number: int, *layers: str) -> str:
        options = ExplainOptions(layers=layers).model_dump(mode="json")
        run: Any = SimpleNamespace(id=number, options=options, pinned_model=None)
        found = manager.explainer_for(run, versions.ledger.query(current_model))
        manager.end_chunk()
        return found.metadata.version

    assert version_for(1, wanted) == "small"

    newer = tmp_path / "newer"
    shutil.copytree(model_folder, newer)
    told = json.loads((newer / "model.json").read_text())
    told |= {"version": "newer", "layers": [one for one in told["layers"] if one["name"] != wanted]}
    (newer / "model.json").write_text(json.dumps(told))
    versions.store.publish(newer)
    versions.ledger.write(
        add_model,
        version="newer",
        digest=digest_of(newer),
        classes=told["classes"],
        source="test",
        metrics={},
        promote=True,
    )

    assert version_for(2) == "newer"
    assert manager.serving == "newer"
    assert manager.last_error is None
    assert version_for(1, wanted) == "small"  # the rest of the earlier run
    assert version_for(3) == "newer"
    versions.ledger.close()
