"""Memory while a report is written, by how many images are written.

    python -m benchmarks.report_memory --images 20000

Images and overlays are hard links to one file of each; rows, pictures and pages are real.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from db.ingest import ScannedFile
from db.leases import record_results
from db.migrate import migrate
from producer.session import open_session
from producer.viewer.report import write_report
from tests.support.made_runs import lease, take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="xraycam-memory-") as made:
        folder = Path(made)
        os.environ["XRAYCAM_HOME"] = str(folder / "home")
        session = open_session()
        migrate(session.ledger)
        root, output = folder / "xrays", folder / "overlays"
        root.mkdir()
        output.mkdir()
        picture = Image.radial_gradient("L").resize((256, 256))
        picture.save(folder / "one.png")
        picture.convert("RGB").save(folder / "one.jpg")
        names = [f"x{number:06d}.png" for number in range(count)]
        for name in names:
            os.link(folder / "one.png", root / name)
            os.link(folder / "one.jpg", output / f"{name}.jpg")
        files = [ScannedFile(name, 10, 1000) for name in names]
        run, _ = take(session.ledger, files, 1000, root=str(root), output=str(output), chunk_size=500)
        for number in range(1, -(-count // 500) + 1):
            held = lease(session.ledger, run, number)
            rows = [
                {
                    "image_id": one.id, "status": "done", "class": "Normal", "probability": 0.75,
                    "width": 256, "height": 256, "target_class": "Normal", "layer": "out_relu",
                    "method": "gradcam", "model_version": "first", "overlay": str(output / f"{one.path}.jpg"),
                }
                for one in held.images
            ]  # fmt: skip
            session.ledger.write(record_results, held, rows)
        begin = time.perf_counter()

        def show(written: int, total: int) -> None:
            if written % max(1, total // 10) == 0:
                seconds = time.perf_counter() - begin
                print(f"{written:>7,} images: {resident():.1f} MB, {seconds:.0f} s", flush=True)

        write_report(session, run, folder / "report", on_progress=show)
        print(f"  ended: {resident():.1f} MB, {time.perf_counter() - begin:.0f} s", flush=True)


def resident() -> float:
    """Memory of this process in MB, resident."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
