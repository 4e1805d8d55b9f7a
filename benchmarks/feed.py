"""How fast images are read and drawn, with an accelerator of no cost: what a fast one would wait for.

    python -m benchmarks.feed ../shared/data/shenzhen
    python -m benchmarks.feed ../shared/data/shenzhen --profile pictures     # and flame graphs, by py-spy
    python -m benchmarks.feed --cores 1 2 16 --sides 512                     # where there are 16

Images/s with one processor and with more, in turn: in threads, in processes, and by as many separate programs
of one thread a stage ("apart"), which is all that the machine has to give. "ready" is how many threads on
average ran or waited for a processor. With py-spy (of the extra `dev`), the share of time for which Python's
lock is held: by any thread, by the one that holds it most, and for what.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
SABOTAGE = PROJECT / "tests" / "support" / "sabotage"
STARTER = PROJECT / "worker" / "model" / "starter"
DIFFERENT = {512: 64, 2048: 8}
# The product's two, and programs that share nothing.
WAYS = ("threads", "processes", "apart")
# The innermost of these on a stack is what a sample was taken in.
STAGES = {
    "read_radiograph": "read",
    "preprocess": "resize",
    "band": "caption",
    "render": "draw",
    "encode": "encode",
    "write_atomically": "write",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="radiographs; without, synthetic ones")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=Path, help="folder for flame graphs (SVG)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(_feed(**json.loads(given.child))))
        return
    work = Path(tempfile.mkdtemp(prefix="xraycam-feed-"))
    try:
        for side in given.sides:
            folder = _images(given.folder, work / str(side), side)
            _scaling(folder, work, side, given.cores, given.seconds, given.rounds)
            _lock(folder, work, side, max(given.cores), given.seconds, given.profile)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _scaling(folder: Path, work: Path, side: int, cores: list[int], seconds: float, rounds: int) -> None:
    more = [count for count in cores if count > 1]
    ways = [(cores[0], "threads"), *((count, way) for count in more for way in WAYS)]
    seen: dict[tuple[int, str], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for count, way in ways:
            programs = range(count if way == "apart" else 1)
            started = [_start(folder, work, count, number, way, seconds) for number in programs]
            found = [_finish(process) for process in started]
            seen[count, way].append({key: sum(one[key] for one in found) for key in found[0]})
    print(
        f"{side} x {side} pixels          images/s   by that of {cores[0]}      processor ms an image   ready"
    )
    for count, way in ways:
        found, base = seen[count, way], seen[ways[0]]
        rate, cost, own, ready = (
            statistics.median(one[key] for one in found) for key in ("rate", "cost", "own", "ready")
        )
        ratios = sorted(a["rate"] / b["rate"] for a, b in zip(found, base, strict=True))
        told = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        cost /= count if way == "apart" else 1
        inside = f", {own:.2f} in the worker itself" if way == "processes" else ""
        print(
            f"  {way:<10}{count:3} processors {rate:8.1f}   {told:<22}{cost:7.2f}{inside:28}{ready:5.1f}",
            flush=True,
        )


def _run(
    folder: Path, work: Path, cores: int, way: str, seconds: float, watch: list[str] | None = None
) -> dict[str, float]:
    """One measurement in a fresh process; `watch`: a command that looks at it, by its number, meanwhile."""
    process = _start(folder, work, cores, 0, way, seconds)
    if watch is not None:
        assert process.stdout is not None
        process.stdout.readline()
        words = [word.replace("PID", str(process.pid)) for word in watch]
        subprocess.run(words, check=True, capture_output=True)
    return _finish(process)


def _start(
    folder: Path, work: Path, cores: int, number: int, way: str, seconds: float
) -> subprocess.Popen[str]:
    out = str(work / f"out-{number}")
    asked: dict[str, object] = {"folder": str(folder), "out": out, "cores": cores, "way": way}
    asked["seconds"] = seconds
    environment = {**os.environ, "PYTHONPATH": str(SABOTAGE), "SABOTAGE_EXPLAINER": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.feed", "--child", json.dumps(asked)],
        cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _finish(process: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = process.communicate()
    return json.loads(output.splitlines()[-1])


def _feed(folder: str, out: str, cores: int, way: str, seconds: float) -> dict[str, float]:
    """Read and draw for so long on so many processors."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from worker.explain.explainer import Explainer
    from worker.explain.options import ExplainOptions
    from worker.explain.pipeline import ImageTask, Pipeline
    from worker.model.metadata import read_metadata

    files = sorted(Path(folder).iterdir())
    explainer, options = Explainer(read_metadata(STARTER), None), ExplainOptions()

    def items(until: float) -> Iterator[ImageTask]:
        number = 0
        while number < len(files) or time.perf_counter() < until:
            file = files[number % len(files)]
            yield ImageTask(number, file, Path(out) / f"{number % 512}.jpg", file.name)
            number += 1

    processes = 1 if way != "processes" else cores
    threads = 1 if way == "apart" else cores
    with Pipeline(threads, threads, processes=processes) as pipeline:
        _count(pipeline.run(explainer, items(0.0), options))
        print("warm", flush=True)
        before, before_own = _processor_time(), time.process_time()
        started = time.perf_counter()
        images = _count(pipeline.run(explainer, items(started + seconds), options))
        clock = time.perf_counter() - started
        own = time.process_time() - before_own
        run, waited = (after - first for after, first in zip(_processor_time(), before, strict=True))
    return {
        "rate": images / clock,
        "cost": 1000 * run / images,
        "own": 1000 * own / images,
        "ready": (run + waited) / clock,
    }


def _count(results: Iterator[Any]) -> int:
    count = 0
    for result in results:
        assert result.error is None, result.error
        count += 1
    return count


def _processor_time() -> tuple[float, float]:
    """Seconds that the threads of this process and of its children ran, and waited for a processor."""
    ran = waited = 0
    for process in (os.getpid(), *_children()):
        for thread in Path(f"/proc/{process}/task").iterdir():
            fields = (thread / "schedstat").read_text().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return ran / 1e9, waited / 1e9


def _children() -> list[int]:
    return [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _lock(folder: Path, work: Path, side: int, cores: int, seconds: float, pictures: Path | None) -> None:
    """Who holds Python's lock, and for what, in one process of threads."""
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        print("  py-spy is not installed: nothing is said of Python's lock")
        return
    file, rate = work / "lock.txt", 200
    record = [str(program), "record", "--pid", "PID", "--nonblocking", "--threads", "--rate", str(rate)]
    look = [*record, "--gil", "--duration", str(math.ceil(seconds)), "--format", "raw", "--output", str(file)]
    found = _run(folder, work, cores, "threads", seconds + 3, look)
    by_thread: Counter[str] = Counter()
    by_stage: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        by_thread[frames[0]] += int(count)
        names = [frame.split(" ")[0].rpartition(".")[2] for frame in reversed(frames)]
        by_stage[next((STAGES[name] for name in names if name in STAGES), "the rest")] += int(count)
    samples = rate * math.ceil(seconds)
    held = sum(by_thread.values()) / samples
    one = max(by_thread.values(), default=0) / samples
    share = held / found["ready"]
    total = max(1, sum(by_stage.values()))
    print(
        f"  Python's lock, {cores} processors, threads: held for {held:.0%} of the time, {one:.0%} by one "
        f"thread;\n    for {share:.1%} of the work, {share * found['cost']:.2f} ms an image, so that one "
        f"process can use {1 / max(share, 1e-9):.0f} processors;\n    of it "
        + ", ".join(f"{name} {count / total:.0%}" for name, count in by_stage.most_common()),
        flush=True,
    )
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        picture = pictures / f"feed-{side}.svg"
        _run(
            folder, work, cores, "threads", seconds + 3,
            [*record, "--duration", str(math.ceil(seconds)), "--output", str(picture.absolute())],
        )  # fmt: skip
        title = f">Reading and drawing {side} x {side} pixels, {cores} processors<"  # not the command
        text = picture.read_text(encoding="utf-8")
        picture.write_text(re.sub(r'(?<=id="title")([^>]*)>[^<]*<', rf"\1{title}", text), encoding="utf-8")
        print(f"    flame graph: {picture} ({picture.stat().st_size // 1000} kB)")


def _images(source: Path | None, folder: Path, side: int) -> Path:
    """Different 8-bit PNG files of this side."""
    if source is None:
        from producer.phantoms import make_phantoms

        source = folder.with_name("phantoms")
        if not source.exists():
            make_phantoms(source, max(DIFFERENT.values()), seed=1)
    folder.mkdir()
    for number, file in enumerate(sorted(source.rglob("*.png"))[: DIFFERENT.get(side, 16)]):
        with Image.open(file) as image:
            gray = image.convert("L")
        gray.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")
    return folder


if __name__ == "__main__":
    main()
