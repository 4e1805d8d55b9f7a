"""Files a second that `xraycam receive` takes from four senders, beside dcmtk's `storescp`.

    python -m benchmarks.receive [FILES] [SIDE]

Draws FILES radiographs of SIDE pixels, sends them by four `storescu` at once, to each receiver three times.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.pacs.test_receive import SENDERS, drawn, send
from tests.support.servers import free_port, wait_until


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def measure(command: list[str], port: int, environment: dict[str, str], files: list[Path]) -> float:
    """Files a second."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), 60, "listens")
        time.sleep(15 if "xraycam" in command[0] else 0)  # until its worker has loaded the network
        began = time.monotonic()
        senders = [send(port, files[number::SENDERS]) for number in range(SENDERS)]
        assert [sender.wait() for sender in senders] == [0] * SENDERS
        return len(files) / (time.monotonic() - began)
    finally:
        process.terminate()
        process.wait()


def main(count: int = 500, side: int = 1024) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = drawn(folder / "files", count, side)
        megabytes = files[0].stat().st_size / 1e6
        for receiver in ("receive", "storescp"):
            found = []
            for turn in range(3):
                port, home = free_port(), folder / f"{receiver}-{turn}"
                home.mkdir(exist_ok=True)
                environment = os.environ | {"XRAYCAM_HOME": str(home)}
                if receiver == "receive":
                    command = [
                        str(Path(sys.executable).with_name("xraycam")),
                        "receive",
                        "--port",
                        str(port),
                        "--quiet",
                        "600",
                    ]
                else:
                    command = ["storescp", "--fork", "-od", str(home), str(port)]
                found.append(measure(command, port, environment, files))
            rate = statistics.median(found)
            print(f"{receiver}: {rate:.0f} files/s, {rate * megabytes:.0f} MB/s of {megabytes:.2f} MB each")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
