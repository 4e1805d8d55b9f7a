"""Keeps workers warm between runs, until nobody has used them for a while: `-m producer.warm_process`.

Standard input is the channel of the command that started it; others come by the socket that the home's file
names. One command at a time uses the workers. It ends when its time is over, when it is told to, and when its
home or ledger is no longer there.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from producer.early_start import EarlyStart
from producer.warm_channel import (
    Channel,
    Closed,
    Message,
    is_file,
    lock,
    place_of_file,
    write_file,
)
from producer.warm_workers import difference, ledger_file
from worker.errors import XraycamError
from worker.queue.messages import EXPLAIN_QUEUE
from worker.settings import Settings, load_settings
from worker.supervisor.devices import Device

if TYPE_CHECKING:
    from producer.local_run import LocalWorkers

log = logging.getLogger(__name__)

LOCK_SECONDS = 5.0
LOOK_SECONDS = 0.25
ERROR_SECONDS = 2.0
# What is written to a ledger at the end does not wait long for one that is away.
_LAST_SECONDS = 2.0


def main() -> None:
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    first = Channel(socket.socket(fileno=os.dup(0)))
    try:
        request = first.receive(10.0)
        if request is not None:
            _keep(load_settings(), first, request)
    except Closed:
        pass  # whoever started us is gone


_asked_to_stop = False


def _stop(*_: object) -> None:
    global _asked_to_stop
    _asked_to_stop = True


def _keep(settings: Settings, first: Channel, request: Message) -> None:
    from db.errors import LedgerError

    settings.apply_umask()
    held = _lock(settings)
    if held is None:
        first.send(refused="another command has just started some")
        return
    early = None
    try:
        early = EarlyStart(settings, [Device(name, visible) for name, visible in request["devices"]])

        from db.ledger import Ledger
        from db.migrate import migrate
        from producer.local_run import local_workers
        from worker.logs import start_logging

        start_logging(settings)
        ledger = Ledger(settings.database)
        migrate(ledger)
        with local_workers(settings, ledger, early=early) as fleet:
            try:
                _Keeper(settings, fleet, request).serve(first)
            finally:
                ledger.retry_timeout = _LAST_SECONDS
    except (XraycamError, LedgerError, OSError) as error:
        log.error("%s", error)
        first.send(failed=str(error))
    finally:
        if early is not None:
            early.end()
        os.close(held)


def _lock(settings: Settings) -> int | None:
    """The home's lock; waits for a process that is ending, which has removed its file."""
    end = time.monotonic() + LOCK_SECONDS
    while (held := lock(settings)) is None:
        if place_of_file(settings).exists() or time.monotonic() > end:
            return None
        time.sleep(0.05)
    return held


class _Keeper:
    """Answers commands, and looks after the workers meanwhile."""

    def __init__(self, settings: Settings, fleet: LocalWorkers, request: Message) -> None:
        assert fleet.broker is not None  # a private one
        self._settings = settings
        self._fleet = fleet
        self._socket = fleet.broker.folder / "warm.sock"
        self._request = request
        self._keep = float(request["keep"])
        self._until = time.monotonic()  # at once, where nobody ever used the workers
        self._user: Channel | None = None
        self._run: int | None = None
        self._told_error = ""
        self._next_error = 0.0
        self._is_ending = False
        self._ledger_file = ledger_file(settings)
        self._channels = selectors.DefaultSelector()
        fleet.is_idle = True
        fleet.tick()  # says of the broker that it is new

    def serve(self, first: Channel) -> None:
        """Until it is time to end; `first` uses the workers already."""
        self._user = first
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(self._socket))
            listening.listen()
            written = write_file(place_of_file(self._settings), self._socket)
            try:
                self._channels.register(listening, selectors.EVENT_READ)
                self._watch(first)
                first.send(broker=self._fleet.settings.broker)
                while self._goes_on() and is_file(place_of_file(self._settings), written):
                    for key, _ in self._channels.select(LOOK_SECONDS):
                        if key.fileobj is listening:
                            self._watch(Channel(listening.accept()[0]))
                        else:
                            self._read(key.data)
                    self._look_after()
            finally:
                if is_file(place_of_file(self._settings), written):
                    place_of_file(self._settings).unlink(missing_ok=True)

    def _goes_on(self) -> bool:
        if _asked_to_stop or ledger_file(self._settings) != self._ledger_file:
            return False
        return self._user is not None or not (self._is_ending or time.monotonic() >= self._until)

    def _look_after(self) -> None:
        """Keep the workers going, and tell their user what happens to them. Raises XraycamError."""
        try:
            lost = self._fleet.tick()
        except XraycamError as error:
            self._tell(failed=str(error))
            raise
        if self._run is None:
            return
        if lost:
            self._tell(lost=True)
        if time.monotonic() >= self._next_error:
            self._next_error = time.monotonic() + ERROR_SECONDS
            error_now = self._fleet.last_error()
            if error_now != self._told_error:
                self._told_error = error_now
                self._tell(error=error_now)

    def _tell(self, **message: object) -> None:
        if self._user is not None:
            with suppress(Closed):  # read as such in the next round
                self._user.send(**message)

    def _watch(self, channel: Channel) -> None:
        self._channels.register(channel, selectors.EVENT_READ, channel)

    def _read(self, channel: Channel) -> None:
        try:
            while (message := channel.receive(0)) is not None:
                self._answer(channel, message)
        except (Closed, KeyError, TypeError, ValueError):
            if channel is self._user:
                self._end_use(idle=False)
            self._channels.unregister(channel)
            channel.close()

    def _answer(self, channel: Channel, message: Message) -> None:
        asked = message.get("ask")
        if asked == "use":
            if (why := self._why_busy()) is not None:
                channel.send(refused=why)
            elif (why := difference(self._request, message)) is not None:
                channel.send(refused=why, others=True)
            else:
                self._user = channel
                channel.send(broker=self._fleet.settings.broker)
        elif asked == "run" and channel is self._user:
            self._begin(channel, message)
        elif asked == "end" and channel is self._user:
            self._end_use(idle=bool(message["idle"]))
        elif asked == "status":
            left = self._keep if self._user is not None else self._until - time.monotonic()
            names = [node.name for node in self._fleet.launcher.nodes]
            channel.send(pid=os.getpid(), workers=names, run=self._run, seconds=max(0.0, left))
        elif asked == "stop":
            self._is_ending = True
            channel.send(run=self._run)
        else:
            raise Closed

    def _why_busy(self) -> str | None:
        if self._is_ending:
            return "they were told to end"
        if self._run is not None:
            return f"run {self._run} uses them"
        return None if self._user is None else "another command uses them"

    def _begin(self, channel: Channel, message: Message) -> None:
        from db.errors import LedgerError
        from db.workers import update_worker

        if message["ledger"] != self._ledger_file:
            channel.send(refused="the ledger's file is another")
            return
        launcher = self._fleet.launcher
        try:
            launcher.release_orphaned_leases()
            for node in launcher.nodes:
                # Of an earlier run; what still holds is told again.
                launcher.ledger.write(update_worker, node.name, last_error=None)
        except LedgerError as error:
            channel.send(refused=str(error))
            return
        self._run = int(message["run"])
        self._keep = self._keep if message["keep"] is None else float(message["keep"])
        self._fleet.is_idle = False
        launcher.look_after(self._run)
        channel.send(run=self._run, seconds=self._keep)

    def _end_use(self, *, idle: bool) -> None:
        """The workers finish their chunks, and wait for the next command."""
        self._user = None
        if self._run is None:
            return
        self._run = None
        self._until = time.monotonic() + self._keep
        self._fleet.is_idle = idle
        self._fleet.launcher.look_after(None)
        if not idle:
            self._drop_messages()

    def _drop_messages(self) -> None:
        """Those of a run that was left: the ledger knows what is undone, for whoever resumes it."""
        from redis import RedisError

        from worker.queue.broker import client

        broker = self._fleet.settings.broker
        with suppress(RedisError, OSError):
            client(broker or "").delete(EXPLAIN_QUEUE)


if __name__ == "__main__":
    main()
