"""What one worker process keeps between chunks: ledger, threads, and the models it holds."""

from __future__ import annotations

from functools import lru_cache

from db.ledger import Ledger
from db.migrate import migrate
from worker.explain.pipeline import Pipeline
from worker.explain.read import limits_of
from worker.model.store import store_of
from worker.serve.model_keeper import ModelKeeper
from worker.settings import Settings, load_settings
from worker.worker_name import worker_name


class Station:
    """The state of a worker process. One chunk at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = worker_name()
        self.ledger = Ledger(settings.database)
        migrate(self.ledger)
        self.pipeline = Pipeline(
            readers=settings.worker_threads,
            renderers=settings.worker_threads,
            batch_size=settings.batch_size,
            limits=limits_of(settings),
        )
        self.keeper = ModelKeeper(self.ledger, store_of(settings), self.name, settings.batch_size)


@lru_cache(maxsize=1)
def station() -> Station:
    """The station of this process, made when first asked for."""
    return Station(load_settings())
