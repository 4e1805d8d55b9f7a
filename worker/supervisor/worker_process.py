"""One Celery worker as a process of its own: `python -m worker.supervisor.worker_process ...`.

It ends when its launcher does, however that ends: the launcher holds the other end of its standard
input, and the kernel closes that.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _stop_with_launcher() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    threading.Thread(target=_stop_with_launcher, daemon=True).start()
    from worker.celery import app
    from worker.settings import load_settings

    load_settings().apply_umask()
    status = app.worker_main(["worker", *sys.argv[1:]])
    from worker.queue.startup import CANNOT_START, gave_up

    sys.exit(CANNOT_START if gave_up() else status or 0)


if __name__ == "__main__":
    main()
