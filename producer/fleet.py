"""What `run` starts on this machine and stops again: a broker where none is configured, and workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from db.ledger import Ledger
from producer.private_broker import PrivateBroker
from worker.errors import XraycamError
from worker.machine.devices import devices_for
from worker.machine.launcher import Launcher
from worker.queue.broker import require_broker
from worker.queue.names import EXPLAIN_QUEUE
from worker.settings import Settings


@dataclass
class Fleet:
    """Workers of this machine; `settings` name the broker they listen to."""

    settings: Settings
    launcher: Launcher
    broker: PrivateBroker | None

    def tick(self) -> bool:
        """Keep all alive; true when the broker had died, and with it its messages."""
        lost = self.broker is not None and self.broker.ensure()
        self.launcher.tick()
        if self.launcher.keeps_failing:
            logs = [str(self.launcher.log_of(node)) for node in self.launcher.nodes]
            raise XraycamError(f"the workers end as soon as they are started; their log says why: {logs[0]}")
        return lost


@contextmanager
def local_fleet(
    settings: Settings, ledger: Ledger, gpus: str = "all", queues: Sequence[str] = (EXPLAIN_QUEUE,)
) -> Iterator[Fleet]:
    """A broker, unless one is configured, and one worker per queue and device, for the time of the block."""
    devices = devices_for(gpus)
    with ExitStack() as started:
        broker = None
        if settings.broker is None:
            broker = PrivateBroker()
            started.callback(broker.stop)
            broker.ensure()
            settings = settings.model_copy(update={"broker_url": SecretStr(broker.url)})
        else:
            require_broker(settings.broker)
        launcher = Launcher(settings, ledger, devices, queues, log_folder=settings.home / "logs")
        started.callback(launcher.stop)
        launcher.start()
        yield Fleet(settings, launcher, broker)
