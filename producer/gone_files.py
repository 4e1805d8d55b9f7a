"""Images of a run that a scan of its folder did not come across: are their files gone?"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from db.gone_files import IdSet, images_between
from db.ledger import Ledger
from worker.file_names import unescape_path

_BATCH = 5000


def gone_images(ledger: Ledger, run_id: int, root: str, seen: IdSet, last: int) -> Iterator[list[int]]:
    """Numbers of images of a run, up to `last` and not in `seen`, whose files are no more, in batches.

    A file that cannot be looked at, such as in a folder that is not readable, is not taken for gone.
    """
    after = 0
    while True:
        with ledger.read() as connection:
            found = images_between(connection, run_id, after, last, _BATCH)
        if not found:
            return
        gone = [key for key, path in found if key not in seen and _is_gone(root, path)]
        if gone:
            yield gone
        after = found[-1][0]


def _is_gone(root: str, path: str) -> bool:
    try:
        status = Path(root, unescape_path(root, path)).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(status.st_mode)
