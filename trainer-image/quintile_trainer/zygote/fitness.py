"""Whether this process may fork: a thread or a GPU context would be cut in half."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

PROCESS = Path("/proc/self")


def reason_against(process: Path = PROCESS) -> str:
    """Return why a fork would be unsafe here, empty when it is safe."""
    threads = sorted((process / "task").iterdir())
    if len(threads) != 1:
        names = []
        for thread in threads:
            with contextlib.suppress(OSError):
                names.append((thread / "comm").read_text().strip())
        return f"it has {len(threads)} threads ({', '.join(names)})"
    if _cuda_is_up() or _has_gpu_open(process):
        return "it has touched a GPU"
    return ""


def _cuda_is_up() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _has_gpu_open(process: Path) -> bool:
    for file in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if str(file.readlink()).startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri")):
                return True
    return False
