"""Reports of runs whose results are made up, and a real Chromium to open them in."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import select

from db.ingest import RunIngest, ScannedFile
from db.ledger import Ledger
from db.runs import Run
from db.schema import images
from tests.support.installation import unavailable
from tests.support.made_runs import finish, lease, take
from tests.support.servers import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = ['ward/"><script>alert(1)<b>.png', "ward/<img src=x onerror=alert(1)>.png"]
CLASSES = ("Normal", "Tuberculosis")


@contextmanager
def browser_page() -> Iterator[Any]:
    """A page of Chromium; `page.said` collects errors and dialogs, of which there must be none."""
    if CHROMIUM is None:
        unavailable("no Chromium here: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed: pip install -e '.[dev]'")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.said = []
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
        yield page
        browser.close()


def wait_true(page: Any, expression: str) -> None:
    """Wait until an expression of JavaScript is true; Playwright's own way needs eval, which is barred."""
    end = time.monotonic() + PATIENCE * 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def made_run(ledger: Ledger, folder: Path) -> Run:
    """A run of ten images, two of them failed, two with hostile names, with pictures on the disk."""
    names = [f"ward/x{number}.png" for number in range(8)] + HOSTILE
    root, output = folder / "xrays", folder / "overlays"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((64, 64)).save(root / name, "PNG")
    run, _ = take(ledger, [ScannedFile(name, 10, 1000) for name in names], root=str(root), output=str(output))
    for number in range(1, 4):
        held = lease(ledger, run, number)
        for image in held.images:
            overlay = Path(run.output) / f"{image.path}.jpg"
            overlay.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 80), "navy").save(overlay)
        finish_some(ledger, held, run)
    return run


def finish_some(ledger: Ledger, held: Any, run: Run) -> None:
    from db.leases import record_results

    rows = []
    for image in held.images:
        if image.path in ("ward/x6.png", "ward/x7.png"):
            rows.append({"image_id": image.id, "status": "failed", "reason": "truncated", "error": "cut"})
            continue
        share = image.id / 11
        rows.append(
            {
                "image_id": image.id, "status": "done", "class": CLASSES[share > 0.5],
                "probability": max(share, 1 - share),
                "probabilities": {"Normal": 1 - share, "Tuberculosis": share}, "width": 64, "height": 64,
                "cam_corner_fraction": share, "cam_border_fraction": share, "blank": False,
                "target_class": "Tuberculosis", "layer": "out_relu", "method": "gradcam",
                "model_version": "first", "overlay": str(Path(run.output) / f"{image.path}.jpg"),
                "odd": "inverted" if image.path == "ward/x2.png" else "",
            }
        )  # fmt: skip
    ledger.write(record_results, held, rows)


def explain_again(ledger: Ledger, run: Run, path: str, class_name: str, side: int) -> None:
    """What happens where a file is replaced by a picture of `side` and its folder is run again."""
    file, overlay = Path(run.root) / path, Path(run.output) / f"{path}.jpg"
    Image.linear_gradient("L").resize((side, side)).save(file, "PNG")
    intake = RunIngest(ledger, run, is_new=False)
    intake.add([ScannedFile(path, file.stat().st_size, file.stat().st_mtime_ns)])
    intake.close()
    with ledger.read() as connection:
        wanted = select(images.c.chunk).where(images.c.run_id == run.id, images.c.path == path)
        chunk = connection.execute(wanted).scalar_one()
    Image.new("RGB", (side, side + 16), "maroon").save(overlay)
    finish(
        ledger, lease(ledger, run, chunk), overlay=str(overlay), probability=0.9, width=side, height=side,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(), **{"class": class_name},
    )  # fmt: skip


def ids(ledger: Ledger, run: Run) -> dict[str, int]:
    """The images of a run by path."""
    with ledger.read() as connection:
        rows = connection.execute(select(images.c.path, images.c.id).where(images.c.run_id == run.id))
        return {row.path: row.id for row in rows}
