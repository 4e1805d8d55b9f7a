"""Hostile names, links and rows on their way through the whole system: folder, ledger, worker, results."""

from __future__ import annotations

import csv
import json
import os
import stat
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import select, update

from db.schema import images, results
from tests.support.hostile_corpus import NAMES, SIZE
from tests.support.installation import Installation
from worker.file_names import escape_path

MARKUP = "[/x].png"  # a folder, and a file in it, that rich would take for markup
FORGED = {
    "forged-up.png": "../secret.png",
    "forged-root.png": "/etc/passwd",
    "forged-deep.png": "a/../../secret.png",
}


@pytest.mark.parametrize("distributed", ["postgres"], indirect=True)
def test_every_image_ends_in_one_row_and_nothing_leaves_its_folders(distributed: Installation) -> None:
    xrays, secret = distributed.folder / "xrays", distributed.folder / "secret.png"
    elsewhere = distributed.folder / "elsewhere"
    for folder in (xrays, xrays / "[", xrays / "linked", elsewhere):
        folder.mkdir()
    image = Image.linear_gradient("L").resize((SIZE, SIZE))
    image.save(secret)
    secret.chmod(0o600)
    names = [os.fsdecode(name) for name in NAMES if not name.startswith(b".")]  # those are hidden
    for name in [*names, *FORGED, MARKUP, "linked/a.png", "swapped.png"]:
        image.save(xrays / name, "PNG")
    distributed.xraycam("enqueue", xrays)

    # After the scan: a file becomes a link, rows are forged, and a link waits in the output.
    (xrays / "swapped.png").unlink()
    (xrays / "swapped.png").symlink_to(secret)
    ledger = distributed.ledger
    for name, path in FORGED.items():
        forging = update(images).where(images.c.path == name).values(path=path)
        ledger.write(lambda connection, forging=forging: connection.execute(forging))
    output = distributed.home / "overlays" / "run-000001"
    output.mkdir(parents=True, exist_ok=True)
    (output / "linked").symlink_to(elsewhere)
    distributed.without_tensorflow()
    distributed.start("worker")
    distributed.wait_complete()

    with ledger.read() as connection:
        rows = connection.execute(
            select(images.c.path, results.c.status, results.c.reason, results.c.error, results.c.overlay)
            .join(results, results.c.image_id == images.c.id)
        ).all()  # fmt: skip
    found = {row.path: row for row in rows}
    assert set(found) == {escape_path(name) for name in names} | {
        *FORGED.values(),
        MARKUP,
        "linked/a.png",
        "swapped.png",
    }
    refused = {path for path, row in found.items() if row.reason == "outside-root"}
    assert refused == {*FORGED.values(), "linked/a.png", "swapped.png"}
    too_long = {path for path, row in found.items() if row.reason == "write-failed"}
    assert all(len(path.encode()) + len(".jpg") > 255 for path in too_long)
    done = {path for path, row in found.items() if row.status == "done"}
    assert done == set(found) - refused - too_long
    assert all(Path(found[path].overlay).is_file() for path in done)
    assert all(row.error is None or row.error.isprintable() for row in rows)
    assert not list(elsewhere.iterdir())
    written = [path for path in distributed.folder.rglob("*.jpg") if not path.is_relative_to(output)]
    assert not written

    told = distributed.xraycam("results", 1, "--format", "json", "--limit", 1000)
    told_paths = {row["path"] for row in json.loads(told.stdout)}
    assert {str(xrays / path) for path in done} <= told_paths
    table = distributed.folder / "table.csv"
    distributed.xraycam("results", 1, "--format", "csv", "--output", table)
    with table.open(newline="", encoding="utf-8") as stream:
        assert {row["path"] for row in csv.DictReader(stream)} == told_paths
    distributed.xraycam("results", 1, "--limit", 1000)
    assert f"{len(refused)} outside-root" in distributed.xraycam("watch", 1, "--once", status=3).stdout

    for path in (table, Path(found[MARKUP].overlay), Path(found[MARKUP].overlay).parent):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
