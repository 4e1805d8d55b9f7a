from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import Installation
from servers import Postgres, Valkey

from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model


@pytest.fixture
def installation(tmp_path: Path, model_store: Callable[[Ledger, Path], Model]) -> Iterator[Installation]:
    """An installation without servers of its own, with the small model as current."""
    made = Installation(tmp_path)
    ledger = made.ledger
    migrate(ledger)
    model_store(ledger, made.home)
    yield made
    made.stop_all()


@pytest.fixture
def distributed(
    tmp_path: Path,
    model_store: Callable[[Ledger, Path], Model],
    valkey: Valkey,
    request: pytest.FixtureRequest,
) -> Iterator[Any]:
    """An installation with a broker of its own and, by parameter `postgres`, with Postgres."""
    made = Installation(tmp_path, broker_url=valkey.url)
    if getattr(request, "param", "sqlite") == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        made.set(database_url=server.new_database())
    ledger = made.ledger
    migrate(ledger)
    model_store(ledger, made.home)
    yield made
    made.stop_all()
