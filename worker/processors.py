"""How many processors this process may use: what it is pinned to, and what its control groups allow."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

_GROUPS, _OF_THIS_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_processors(groups: Path = _GROUPS, own: Path = _OF_THIS_PROCESS) -> int:
    """Processors by affinity, or fewer where a quota of a control group allows less; at least 1.

    `groups`: where control groups are mounted; `own`: the file that says in which this process is. A quota
    of 1.5 processors counts as 2: the part of the second is not left idle. Neither `os.process_cpu_count`
    nor joblib looks at the groups above the own one, where systemd and Kubernetes set quotas.
    """
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in _quotas(groups, own) if quota > 0]
    return max(1, min([pinned, *(math.ceil(quota) for quota in quotas)]))


def processors_of_each(devices: int) -> int:
    """Processors for each of so many devices that share this machine."""
    return max(1, usable_processors() // max(1, devices))


def _quotas(groups: Path, own: Path) -> list[float]:
    """In processors, of this process's group and those above it, of either version of control groups."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found: list[float] = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if not controllers:  # version 2, which beside version 1 is mounted below
            mounts = (groups, groups / "unified")
        elif "cpu" in names:
            mounts = (groups / "cpu", groups / controllers)
        else:
            continue
        # A container may see the path of its host, but have its own group mounted at the top.
        inside = PurePosixPath(path).relative_to("/") if path.startswith("/") else PurePosixPath()
        for mount in mounts:
            for group in (mount / inside, *(mount / above for above in inside.parents), mount):
                found += _quota(group)
    return found


def _quota(group: Path) -> list[float]:
    """A group's own quota, none where it has none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        return [] if quota == "max" else [int(quota) / int(period)]
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (
            (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
        )
        return [int(quota) / int(period)]  # -1: none
    return []
