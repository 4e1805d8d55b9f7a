"""What a worker process keeps between chunks: ledger, threads, and models, replaced while it works."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from functools import lru_cache
from typing import Any

from db.errors import LedgerError
from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model
from db.runs import Run
from db.workers import update_worker
from worker.errors import ModelError
from worker.explain.batch_size import LARGEST_ON_CPU, SIZES, best_batch_size
from worker.explain.compiled_pass import KeptPass, key_of, load_kept
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.pipeline import Pipeline
from worker.images.reader import limits_of
from worker.input_check.check import InputCheck, load_check
from worker.logs import worker_name
from worker.model.metadata import ModelMetadata, read_metadata
from worker.model.network import load_model
from worker.model.store import ModelStore, ensure_current_model, store_of
from worker.queue.reload import request_reload, wait_for_reload
from worker.settings import Settings, load_settings

log = logging.getLogger(__name__)

# Enough for runs that alternate between two models or two choices of layers.
KEPT_EXPLAINERS = 2
LOOK_SECONDS = 20.0
# Chunks of one run with a longer pause between them were asked for one after the other.
PAUSE_SECONDS = 1.0

_Choice = tuple[tuple[str, ...], tuple[str, ...], bool]  # layers, methods, whether every class


class ModelManager:
    """Gives each chunk its explainer.

    Runs that pin no model get the version this keeper serves. When the ledger names another as current, it
    is loaded, built and warmed up in a thread, while chunks continue with the old one; a run that this worker
    begins waits for it. If that fails, the old one stays in use and `last_error` says why.
    """

    def __init__(
        self, ledger: Ledger, store: ModelStore, worker: str, batch_size: int, largest_batch: int = 128
    ) -> None:
        """`batch_size` 0: measured for each explainer, up to `largest_batch`."""
        self._ledger = ledger
        self._store = store
        self._worker = worker
        self._batch_size, self._largest_batch = batch_size, largest_batch
        self._lock = threading.Lock()
        self._changing = threading.RLock()
        self._last_run: int | None = None
        self._idle_since = 0.0
        # By digest: a version that was deleted may come back under its name with other content.
        self._explainers: OrderedDict[tuple[str, _Choice], Explainer] = OrderedDict()
        self._served: Model | None = None
        self._previous: Model | None = None
        self._rejected: str | None = None
        self._networks: dict[str, tuple[ModelMetadata, Any, InputCheck | None]] = {}
        self.last_error: str | None = None

    @property
    def serving(self) -> str | None:
        """The version that unpinned runs get."""
        return None if self._served is None else self._served.version

    def start(self) -> None:
        """Load the current model, then follow changes in a thread.

        Raises ModelError or LedgerError when there is no usable model yet; the thread keeps looking.
        """
        threading.Thread(target=self._watch_current_model, name="model-keeper", daemon=True).start()
        if self._served is None:
            self._serve(ensure_current_model(self._ledger, self._store))

    def explainer_for(self, run: Run, model: Model | None) -> Explainer:
        """The explainer for a chunk of `run`, whose version or the current one is `model`; None: there was
        none yet. Raises ModelError."""
        options = ExplainOptions.model_validate(run.options)
        choice = (options.layers, options.methods, options.every_class)
        if model is None:
            model = ensure_current_model(self._ledger, self._store)
        if run.pinned_model is not None:
            return self._explainer(model, choice)
        begins = run.id != self._last_run or time.monotonic() - self._idle_since > PAUSE_SECONDS
        self._last_run = run.id
        if self._served is None:
            self._serve(model)
        elif model.digest != self._served.digest and begins:
            # Asked for after that version became current, or so it must look to whoever asked.
            with suppress(Exception):  # `last_error` says it
                self._change_to(model)
        elif model.digest != self._served.digest:
            request_reload()
        served = self._served or model
        if self._previous is not None and not self._has(served, choice) and self._has(self._previous, choice):
            served = self._previous  # a run that began before, with a layer that the newer one does not have
        return self._explainer(served, choice)

    def end_chunk(self) -> None:
        """Note that this worker waits for the next chunk."""
        self._idle_since = time.monotonic()

    def _change_to(self, model: Model) -> None:
        """Serve this version, unless it is served or was rejected. Raises as `_serve` does."""
        with self._changing:
            served = None if self._served is None else self._served.digest
            if model.digest not in (served, self._rejected):
                started = time.monotonic()
                self._serve(model)
                if served is not None:
                    log.warning("model %s serves after %.1f s", model.version, time.monotonic() - started)

    def _watch_current_model(self) -> None:
        while True:
            wait_for_reload(LOOK_SECONDS)
            try:
                self._change_to(ensure_current_model(self._ledger, self._store))
            except (ModelError, LedgerError) as error:
                log.error("%s", error)
            except Exception:
                log.exception("a new model could not be loaded")

    def _serve(self, model: Model) -> None:
        """Load a version, build what chunks need of it, and only then let it serve."""
        before = self.serving
        digest_before = None if self._served is None else self._served.digest
        asked = [choice for digest, choice in self._explainers if digest == digest_before]
        try:
            # It may lack a layer that some run has asked for: no reason not to serve it.
            choices = [choice for choice in asked if self._has(model, choice)] or [((), (), False)]
            built = {(model.digest, choice): self._build(model, choice) for choice in choices}
        except Exception as error:
            self._rejected = model.digest
            still = f"; {before} stays in use" if before else ""
            self.last_error = (
                f"{error}{still}" if isinstance(error, ModelError) else f"{model.version}: {error}{still}"
            )
            self._ledger.write(update_worker, self._worker, last_error=self.last_error)
            raise
        with self._lock:
            # What the old version was compiled to goes with it.
            for key in [key for key in self._explainers if key[0] == digest_before]:
                del self._explainers[key]
            self._networks.pop(digest_before or "", None)
            self._explainers.update(built)
            self._previous, self._served = self._served, model
            self._rejected = None
            self.last_error = None
        self._ledger.write(update_worker, self._worker, model_version=model.version, last_error=None)

    def _explainer(self, model: Model, choice: _Choice) -> Explainer:
        key = (model.digest, choice)
        with self._lock:
            explainer = self._explainers.get(key)
        if explainer is None:
            explainer = self._build(model, choice)
        with self._lock:
            self._explainers[key] = explainer
            self._explainers.move_to_end(key)
            while len(self._explainers) > KEPT_EXPLAINERS:
                self._explainers.popitem(last=False)
            kept = {digest for digest, _ in self._explainers}
            self._networks = {digest: held for digest, held in self._networks.items() if digest in kept}
        return explainer

    def _has(self, model: Model, choice: _Choice) -> bool:
        """Whether a version has the layers of a choice. Raises ModelError where it cannot be read."""
        if not choice[0] or (model.digest, choice) in self._explainers:
            return True
        known = {layer.name for layer in read_metadata(self._store.fetch(model.version, model.digest)).layers}
        return known.issuperset(choice[0])

    def _build(self, model: Model, choice: _Choice) -> Explainer:
        folder = self._store.fetch(model.version, model.digest)
        (layers, methods, every_class), held = choice, self._networks.get(model.digest)
        # A copy that lies here and was checked just now needs no network to be built: a pass may be kept.
        description = read_metadata(folder) if held is None else held[0]
        check = load_check(folder, description) if held is None else held[2]
        loaded: list[Any] = [] if held is None else [held[1]]

        def network() -> Any:
            if not loaded:
                loaded.append(load_model(folder)[1])
            return loaded[0]

        file = folder.with_name(f"{folder.name}.compiled") / key_of(model.digest, choice)

        def kept(panels: tuple[str, ...]) -> KeptPass | None:
            return load_kept(file, folder / description.weights.file, panels) if _may_keep() else None

        explainer = Explainer(
            description, network, layers, methods, every_class=every_class, check=check, kept=kept
        )
        if self._batch_size or explainer.needs_per_channel_passes:
            explainer.warm_up(self._batch_size or 1)
        else:
            explainer.batch_size = self._measured_batch_size(explainer)
        if loaded:
            self._networks[model.digest] = description, loaded[0], check
        if not explainer.is_kept and _may_keep():
            explainer.keep(file, network())
        return explainer

    def _measured_batch_size(self, explainer: Explainer) -> int:
        """What `auto` means for an explainer. No batch is larger than a chunk."""
        largest = min(self._largest_batch, LARGEST_ON_CPU) if _is_on_cpu() else self._largest_batch
        side = explainer.metadata.preprocessing.size
        found = best_batch_size(explainer.explain, side, largest)
        log.info("batches of %d images suit %s", found, explainer.metadata.version)
        return found


def _may_keep() -> bool:
    """Whether passes are kept: on a CPU; it was not measured on a GPU, which compiles by itself."""
    return _is_on_cpu()


def _is_on_cpu() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES") == "-1"


class WorkerContext:
    """The state of a worker process. One chunk at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = worker_name()
        self.ledger = Ledger(settings.database)
        migrate(self.ledger)
        self.pipeline = Pipeline(
            readers=settings.worker_threads,
            renderers=settings.worker_threads,
            batch_size=settings.batch_size or SIZES[0],
            limits=limits_of(settings),
            processes=settings.worker_processes(on_cpu=_is_on_cpu()),
        )
        self.models = ModelManager(
            self.ledger, store_of(settings), self.name, settings.batch_size, settings.chunk_size
        )


@lru_cache(maxsize=1)
def station() -> WorkerContext:
    """The station of this process, made when first asked for."""
    return WorkerContext(load_settings())
