"""How much memory a rank may fill with decoded data: what the cgroup and the machine have left.

Standard library only.
"""

from __future__ import annotations

from pathlib import Path

from quintile_trainer import threads

SHARE = 4
"""Data may take one part in this many of what is free; the rest is for training itself."""
MEMORY_INFO = Path("/proc/meminfo")


def budget_bytes(*, free_bytes: int, ranks_on_host: int) -> int:
    """Return the bytes that one rank may fill. Pure."""
    return max(0, free_bytes) // SHARE // max(1, ranks_on_host)


def free_bytes(root: Path = threads.CGROUP, machine: Path = MEMORY_INFO) -> int:
    """Return how many bytes are free here: the least of cgroup (version 2 or 1) and machine."""
    return min([*_cgroup_bytes(root), *_machine_bytes(machine)], default=0)


def _cgroup_bytes(root: Path) -> list[int]:
    if (root / "cgroup.controllers").exists():
        names = ("memory.max", "memory.current")
        pairs = [tuple(folder / name for name in names) for folder in threads.own_folders(root)]
    else:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        pairs = [tuple(root / "memory" / name for name in names)]
    found = []
    for limit, used in pairs:
        limit_words, used_words = threads.words(limit), threads.words(used)
        # "max" means no limit.
        if limit_words and used_words and limit_words[0].isdigit():
            found.append(int(limit_words[0]) - int(used_words[0]))
    return found


def _machine_bytes(path: Path) -> list[int]:
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return [int(rest.split()[0]) * 1024]
    return []
