"""How many threads a rank may use: the cgroup's quota, not the machine's count of processors.

Standard library only: the answer goes into the environment before any numeric library loads.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def plan_threads(*, processors: int, quota: float | None, ranks_on_host: int) -> int:
    """Return the threads of one rank, at least 1. Pure.

    Args:
        processors: Processors that the scheduler may use for us.
        quota: Processors that the cgroup pays for; None without a limit.
        ranks_on_host: Ranks that share them.
    """
    usable = processors if quota is None else min(processors, max(1, math.floor(quota)))
    return max(1, usable // max(1, ranks_on_host))


def quota(root: Path = CGROUP, membership: Path = MEMBERSHIP) -> float | None:
    """Return the processor quota of our cgroup (version 2 or 1), None when there is no limit."""
    if (root / "cgroup.controllers").exists():
        return _version2(root, membership)
    return _version1(root)


def available() -> int:
    """Return how many processors the scheduler may use for this process."""
    return len(os.sched_getaffinity(0))


def apply(count: int) -> None:
    """Set the thread variables of numeric libraries that the user has not set."""
    for name in VARIABLES:
        os.environ.setdefault(name, str(count))
    # Threads that spin while they wait stall each other as soon as processors are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _version2(root: Path, membership: Path) -> float | None:
    smallest: float | None = None
    for folder in own_folders(root, membership):
        found = words(folder / "cpu.max")
        if len(found) == 2 and found[0].isdigit():
            share = int(found[0]) / int(found[1])
            smallest = share if smallest is None else min(smallest, share)
    return smallest


def _version1(root: Path) -> float | None:
    for name in ("cpu", "cpu,cpuacct"):
        limit = words(root / name / "cpu.cfs_quota_us")
        period = words(root / name / "cpu.cfs_period_us")
        if limit and period and limit[0].isdigit() and int(period[0]) > 0:
            return int(limit[0]) / int(period[0])
    return None


def own_folders(root: Path, membership: Path = MEMBERSHIP) -> list[Path]:
    """Return our cgroup's folder and its parents up to the root; a limit of any of them counts."""
    folders = [root]
    for line in membership.read_text().splitlines() if membership.exists() else ():
        if line.startswith("0::"):
            place = root
            for part in line[3:].strip("/").split("/"):
                if part in ("", ".."):
                    continue
                place = place / part
                folders.append(place)
    return folders


def words(path: Path) -> list[str]:
    """Return the words of a small file, none when it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []
