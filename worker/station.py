"""What one worker process keeps between chunks: ledger, threads, and the model it holds."""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from functools import lru_cache
from typing import Any

from db.ledger import Ledger
from db.migrate import migrate
from db.models import get_model
from db.runs import Run
from db.workers import note_worker
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.pipeline import Pipeline
from worker.explain.read import Limits
from worker.model.description import Description
from worker.model.folder import load_model
from worker.model.integrity import check_folder
from worker.model.store import ensure_current_model, folder_of
from worker.settings import Settings, load_settings

# Enough for runs that alternate between two models or two choices of layers.
KEPT_EXPLAINERS = 2


class Station:
    """The state of a worker process. One chunk at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = os.environ.get("XRAYCAM_WORKER_NAME") or f"{os.getpid()}@{socket.gethostname()}"
        self.ledger = Ledger(settings.database)
        migrate(self.ledger)
        self.pipeline = Pipeline(
            readers=settings.worker_threads,
            renderers=settings.worker_threads,
            batch_size=settings.batch_size,
            limits=Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_bytes),
        )
        self._explainers: OrderedDict[tuple[Any, ...], Explainer] = OrderedDict()
        self._held: tuple[Description, Any] | None = None

    def explainer_for(self, run: Run) -> Explainer:
        """The explainer a run's chunk is to be done with: its pinned model, else the current one.

        Raises ModelError when the model is missing, damaged, or lacks what the run asks for.
        """
        options = ExplainOptions.model_validate(run.options)
        if run.pinned_model is not None:
            model = get_model(self.ledger, run.pinned_model)
        else:
            model = ensure_current_model(self.ledger, self.settings.model_store)
        key = (model.version, options.layers, options.method)
        explainer = self._explainers.get(key)
        if explainer is None:
            description, network = self._network(model.version, model.digest)
            explainer = Explainer(description, network, options.layers, options.method)
            explainer.warm_up(self.settings.batch_size)
            self._explainers[key] = explainer
            while len(self._explainers) > KEPT_EXPLAINERS:
                self._explainers.popitem(last=False)
        self._explainers.move_to_end(key)
        return explainer

    def prepare(self) -> None:
        """Load the current model before the first chunk comes."""
        model = ensure_current_model(self.ledger, self.settings.model_store)
        self._network(model.version, model.digest)
        note_worker(self.ledger, self.name, model_version=model.version, fault=None)

    def _network(self, version: str, digest: str) -> tuple[Description, Any]:
        if self._held is None or self._held[0].version != version:
            folder = folder_of(self.settings.model_store, version)
            check_folder(folder, digest)
            self._held = load_model(folder)
        return self._held


@lru_cache(maxsize=1)
def station() -> Station:
    """The station of this process, made when first asked for."""
    return Station(load_settings())
