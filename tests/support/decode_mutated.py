"""Decodes mutated rasters and prints what became of each: `decode_mutated.py COUNT BYTES SEED`, where BYTES
is what the process may take beyond what it takes once all decoders are loaded."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from tests.support.made_raster import encodings
from worker.errors import ImageError
from worker.images.limits import Limits
from worker.images.raster import decode_raster


def main(count: int, more_bytes: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    made = encodings()
    names = sorted(made)
    for name in names:
        decode_raster(made[name], name, Limits())
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + more_bytes, held + more_bytes))
    found = []
    for number in range(count):
        name = names[number % len(names)]
        content = mutated(made[name], np.random.default_rng([seed, number]))
        print(number, name, file=sys.stderr, flush=True)  # the last of these is what killed us
        start = time.monotonic()
        reason, message = outcome(content, name)
        found.append([name, reason, message, time.monotonic() - start])
    print(json.dumps(found))


def outcome(content: bytes, name: str) -> tuple[str | None, str]:
    try:
        image = decode_raster(content, name, Limits())
    except ImageError as error:
        return error.reason, str(error)
    assert image.mode == "L"
    assert min(image.size) >= 16
    return None, ""


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """A few bytes changed, lengths among them, a part moved, or the end missing; half of it in the head."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 5)):
        end = min(len(changed), 400 if random.random() < 0.6 else len(changed))
        at = int(random.integers(2, end))
        kind = random.integers(6)
        if kind == 0:
            changed[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            changed[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"])
        elif kind == 2:
            changed[at : at + 2] = random.bytes(2)
        elif kind == 3:
            changed[at:at] = random.bytes(int(random.integers(1, 40)))
        elif kind == 4:
            del changed[at : at + int(random.integers(1, 40))]
        else:
            other = int(random.integers(0, len(changed)))
            changed[at : at + 16] = changed[other : other + 16]
    if random.random() < 0.1:
        del changed[int(random.integers(20, len(changed))) :]
    return bytes(changed)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
