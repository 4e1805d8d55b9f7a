"""Which processors this machine has for the network, found without TensorFlow."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from worker.errors import XraycamError


@dataclass(frozen=True)
class Device:
    """One GPU, or the CPU; `visible` is what CUDA_VISIBLE_DEVICES must say for a worker pinned to it."""

    name: str
    visible: str


CPU = Device("cpu", "-1")


def list_gpus() -> list[str]:
    """Identifiers of the GPUs this process may use: numbers, or what CUDA_VISIBLE_DEVICES lists."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        listed = [part.strip() for part in allowed.split(",") if part.strip()]
        return listed[: listed.index("-1")] if "-1" in listed else listed
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip().isdigit()]


def devices_for(wanted: str) -> list[Device]:
    """The devices that `--gpus all|none|0,1` stands for; the CPU where there is no GPU.

    Raises XraycamError for a GPU that this machine does not have.
    """
    gpus = list_gpus()
    if wanted == "none" or (wanted == "all" and not gpus):
        return [CPU]
    if wanted == "all":
        chosen = gpus
    else:
        chosen = [part.strip() for part in wanted.split(",") if part.strip()]
        unknown = [part for part in chosen if part not in gpus]
        if unknown or not chosen:
            found = ", ".join(gpus) or "none"
            raise XraycamError(
                f"--gpus {wanted}: this machine's GPUs are: {found}; use 'all', 'none' or numbers of these"
            )
    return [Device(f"gpu{gpu}", gpu) for gpu in dict.fromkeys(chosen)]
