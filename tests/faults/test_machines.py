"""Machines of their own that share a queue: one is cut off from the others in the middle of a chunk."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db.migrate import migrate
from db.schema import images, results
from db.workers import list_workers
from tests.support.fault_runs import (
    NoteFault,
    assert_each_once,
    children,
    draw_xrays_of,
    enqueue,
    leased_chunks,
    seconds_until_finished,
)
from tests.support.installation import COMMAND, Installation, InstallModel, draw_many, unavailable
from tests.support.network_namespaces import Host, Network, ValkeyOn
from tests.support.servers import CannotStart, Postgres, Valkey, wait_until
from worker.queue.messages import EXPLAIN_QUEUE

FIRST, LATER = 80, 240
LEASE_SECONDS = 5
# Three leases: longer than anything that is held may stay with the machine that is cut off.
CUT_SECONDS = 15.0


@contextmanager
def or_unavailable() -> Iterator[None]:
    """Skip the test where its machines cannot be made; on CI they must be."""
    try:
        yield
    except CannotStart as error:
        unavailable(str(error))


@pytest.fixture
def network() -> Iterator[Network]:
    with or_unavailable():
        made = Network("control", "xray-1", "xray-2")
    yield made
    made.remove()


@pytest.fixture
def broker(network: Network) -> Iterator[Valkey]:
    server = ValkeyOn(network.hosts["control"])
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def shared(
    tmp_path: Path, network: Network, broker: Valkey, model_store: InstallModel
) -> Iterator[Installation]:
    """An installation whose servers are on the host `control`, and whose folder all hosts share."""
    control = network.hosts["control"]
    with ExitStack() as ends:
        with or_unavailable():
            database = Postgres(control.address, network.subnet, control.inside)
            ends.callback(database.remove)
            database.start()
        made = Installation(tmp_path, broker_url=broker.url, database_url=database.new_database())
        ends.callback(made.stop_all)
        migrate(made.ledger)
        model_store(made.ledger, made.home)
        yield made


def start_worker(installation: Installation, host: Host) -> subprocess.Popen[bytes]:
    with (installation.folder / "stderr.txt").open("a") as log:
        return subprocess.Popen(
            [*host.inside_by_name, str(COMMAND), "worker"], env=installation.environment,
            cwd=installation.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def hosts_at_work(installation: Installation) -> set[str]:
    """Hosts with a worker that has loaded the model."""
    return {worker.host for worker in installation.ledger.query(list_workers) if worker.model_version}


def done_by(installation: Installation, numbers: list[int] | None = None) -> dict[str, int]:
    """Images done on each host: of all chunks, or of these."""
    ended = (
        select(results.c.worker, func.count())
        .join(images, images.c.id == results.c.image_id)
        .group_by(results.c.worker)
    )
    if numbers is not None:
        ended = ended.where(images.c.chunk.in_(numbers))
    with installation.ledger.read() as connection:
        return {worker.rpartition("@")[2]: count for worker, count in connection.execute(ended)}


def test_chunk_of_a_machine_that_is_cut_off_is_done_by_another_and_it_works_again_when_it_is_back(
    shared: Installation, network: Network, broker: Valkey, note_fault: NoteFault
) -> None:
    lost, other = network.hosts["xray-1"], network.hosts["xray-2"]
    xrays = draw_xrays_of(shared, FIRST, lease_timeout=LEASE_SECONDS)
    shared.sabotage(explainer=0.2)  # a chunk of 8 takes 1.6 s
    launchers = [start_worker(shared, lost), start_worker(shared, other)]
    wait_until(lambda: hosts_at_work(shared) == {lost.name, other.name}, 60, "both machines ready")
    enqueue(shared, xrays)
    wait_until(lambda: done_by(shared).keys() == {lost.name, other.name}, 30, "both machines work")

    # What is sent again queues behind what waits: with little there, it is the lease that is measured.
    wait_until(lambda: broker.client().llen(EXPLAIN_QUEUE) <= 3, 60, "little left in the queue")
    before = leased_chunks(shared, lost.name)
    wait_until(lambda: leased_chunks(shared, lost.name) not in ([], before), 10, "a chunk just begun")
    processes = children(shared)
    lost.cut()
    start = time.monotonic()
    held = leased_chunks(shared, lost.name)
    assert held
    until_done = seconds_until_finished(shared, held, within=CUT_SECONDS - 1)
    assert done_by(shared, held).keys() == {other.name}

    # The run continues, also with what is enqueued now.
    draw_many(xrays / "later", LATER)
    enqueue(shared, xrays)
    so_far = done_by(shared)
    wait_until(lambda: done_by(shared)[other.name] > so_far[other.name], 10, "the other works")
    time.sleep(max(0.0, start + CUT_SECONDS - time.monotonic()))
    assert done_by(shared)[lost.name] == so_far[lost.name]

    lost.restore()
    start = time.monotonic()
    wait_until(lambda: done_by(shared)[lost.name] > so_far[lost.name], 60, "it works again")
    until_back = time.monotonic() - start

    shared.wait_complete(seconds=60)
    assert children(shared) == processes
    assert [launcher.poll() for launcher in launchers] == [None, None]
    assert_each_once(shared, FIRST + LATER)
    note_fault(
        f"the network of one of two machines is cut for {CUT_SECONDS:g} s in mid-chunk",
        "its lease ends, the chunk is sent again, and the other machine does it; the run continues there",
        until_done,
    )
    note_fault(
        "the network of that machine is back",
        "its worker, the same process as before, takes chunks again; what it had leased counts once",
        until_back,
        since="until a new chunk is done",
    )
