"""The services do their work as containers: same command, user, variables, folders, read-only root."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.compose import GROUP, PASSWORD, USER, Project, Service
from tests.support.container import Container
from tests.support.installation import draw_xrays, unavailable
from tests.support.network_namespaces import Host, Network
from tests.support.servers import CannotStart, Postgres, wait_until

XRAYS = 5


@pytest.fixture
def filled(project: Project) -> Project:
    """A project with X-rays that the containers' user may read, and a folder of that user's for results."""
    project.set(XRAYCAM_CHUNK_SIZE="2", XRAYCAM_SHUTDOWN_GRACE_PERIOD="5")
    draw_xrays(project.images / "ward", XRAYS)
    for folder in (project.images, project.images / "ward"):
        folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(project.data, USER, GROUP)
    project.data.chmod(0o700)
    return project


@pytest.fixture
def database(network: Network, host: Host) -> Iterator[Postgres]:
    """Postgres where the service `postgres` is, with its user, password, database and port."""
    try:
        server = Postgres(host.address, network.subnet, host.inside, PASSWORD)
    except CannotStart as error:
        unavailable(str(error))
    server.port = 5432
    try:
        server.start()
        with psycopg.connect(
            host=host.address,
            port=5432,
            dbname="postgres",
            user="xraycam",
            password=PASSWORD,
            autocommit=True,
        ) as connection:
            connection.execute("CREATE DATABASE xraycam")
        yield server
    finally:
        server.remove()


class Fleet:
    """The running services, to be removed together."""

    def __init__(self, services: dict[str, Service], host: Host, data: Path) -> None:
        self.services = services
        self.host = host
        self._folders = {"valkey": {"/data": data / "broker"}, "flower": {"/var/lib/flower": data / "flower"}}
        for folders in self._folders.values():
            for folder in folders.values():
                folder.mkdir(parents=True)
                folder.chmod(0o1777)  # what the images have there is for whoever runs them
        self.running: dict[str, Container] = {}

    def container(self, name: str, hostname: str = "") -> Container:
        return Container(self.services[name], hostname or name, self.host, self._folders.get(name))

    def start(self, name: str) -> Container:
        self.running[name] = self.container(name, f"host-of-{name}")
        self.running[name].start()
        return self.running[name]

    def run(self, name: str, *command: str) -> str:
        """Run a service to its end, which must be a good one; returns what it printed."""
        done = self.container(name).run(*command)
        assert done.returncode == 0, f"{name}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{it.output[-3000:]}" for name, it in self.running.items())


@pytest.fixture
def fleet(filled: Project, host: Host, database: Postgres, tmp_path: Path) -> Iterator[Fleet]:
    assert database.is_running()
    fleet = Fleet(filled.services(), host, tmp_path / "volumes")
    try:
        fleet.start("valkey")
        broker = redis.Redis(host.address, 6379, password=PASSWORD)
        wait_until(lambda: _answers(broker), 30, f"the broker answers: {fleet.logs()}")
        yield fleet
    finally:
        for container in fleet.running.values():
            container.remove()


def test_a_folder_of_xrays_is_explained_by_the_services_and_its_overlays_belong_to_the_person(
    fleet: Fleet, filled: Project, host: Host
) -> None:
    fleet.run("check")
    assert "has schema" in fleet.run("migrate")
    worker, trainer, flower = map(fleet.start, ("worker-cpu", "trainer-cpu", "flower"))
    run = fleet.run("cli", "enqueue", "/images").split()[-1]
    fleet.run("cli", "watch", run)
    rows = json.loads(fleet.run("cli", "results", run, "--format", "json"))
    assert [row["status"] for row in rows] == ["done"] * XRAYS
    # Where the person finds them, theirs, and for nobody else to read.
    overlays = [filled.data / Path(row["overlay"]).relative_to("/data") for row in rows]
    for overlay in overlays:
        found = overlay.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (USER, GROUP, 0o600)
    for container in (worker, trainer, flower):
        assert container.is_healthy(), fleet.logs()
    assert "xraycam_queue_messages" in _get(f"http://{host.address}:9100/metrics")
    _check_flower(host)
    for container in (worker, trainer, flower):
        assert container.stop(seconds=30) == 0, fleet.logs()


def test_a_container_here_has_the_limits_of_one(filled: Project, host: Host) -> None:
    limits = (
        "id -u; id -g; id -G; grep -h -e CapBnd -e CapEff -e NoNewPrivs /proc/self/status | cut -f2;"
        "hostname; for folder in / /opt/xraycam /images /usr/lib /etc /data /tmp; do"
        " test -w $folder && echo $folder; done; ls /proc | grep -c '^[0-9]*$'; env | grep -c HOME="
    )
    service = filled.services()["worker-cpu"] | {"entrypoint": ["sh", "-c", limits], "command": []}
    done = Container(service, "some-host", host).run()
    none = "0" * 16
    few = done.stdout.split()[-2]
    assert done.stdout.split() == [
        str(USER), str(GROUP), str(GROUP), none, none, "1", "some-host", "/data", "/tmp", few, "3",  # noqa: S108 - in the container
    ]  # fmt: skip
    assert int(few) < 10


def test_an_unknown_setting_in_the_env_file_stops_everything_with_its_name(
    fleet: Fleet, filled: Project
) -> None:
    filled.set(XRAYCAM_CHUNKSIZE="2")
    fleet.services = filled.services()
    done = fleet.container("migrate").run()
    assert done.returncode == 2
    assert "XRAYCAM_CHUNKSIZE; did you mean XRAYCAM_CHUNK_SIZE?" in done.stderr


def _check_flower(host: Host) -> None:
    flower = f"http://{host.address}:5555"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        _get(f"{flower}/tasks")
    columns = [
        part.split(">")[1].split("<")[0] for part in _get(f"{flower}/tasks", login=True).split("<th ")[1:]
    ]
    assert columns == ["Name", "args", "kwargs", "State", "Received", "Runtime", "Worker"]
    asked = "draw=1&start=0&length=50&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
    tasks = json.loads(_get(f"{flower}/tasks/datatable?{asked}", login=True))["data"]
    assert sorted(
        (task["name"], task["args"], task["kwargs"], task["state"], task["worker"].split("@")[1])
        for task in tasks
    ) == [
        ("xraycam.explain_chunk", "'/images'", f"chunk {chunk}/3, run 1", "SUCCESS", "host-of-worker-cpu")
        for chunk in (1, 2, 3)
    ]  # fmt: skip


def _get(url: str, *, login: bool = False) -> str:
    request = urllib.request.Request(url)  # noqa: S310 - of a server that a test starts
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode())


def _answers(broker: redis.Redis) -> bool:
    try:
        return bool(broker.ping())
    except redis.ConnectionError:
        return False
