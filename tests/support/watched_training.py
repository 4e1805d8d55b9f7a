"""Trainings of an installation, as its ledger has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from db.errors import TrainingNotFound
from db.trainings import Training, get_training
from tests.support.installation import Installation
from tests.support.servers import wait_until

# Enough for a worker to start, import TensorFlow and compile, on a machine that has other things to do.
START_SECONDS = 180.0


class Watched:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def get(self, number: int = 1) -> Training:
        ledger = self._installation.ledger
        try:
            return ledger.query(get_training, number)
        finally:
            ledger.close()

    def wait(self, condition: Callable[[Training], Any], what: str, number: int = 1) -> Training:
        """Wait until `condition` holds of a training, and there is one."""
        found: list[Training] = []

        def exists() -> Any:
            try:
                found[:] = [self.get(number)]
            except TrainingNotFound:
                return False
            return condition(found[0])

        try:
            wait_until(exists, START_SECONDS, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found}\n{self._installation.logs()}") from error
        return found[0]
