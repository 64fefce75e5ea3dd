"""Loads what ranks will need, at low priority, without leaving a thread behind."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from pathlib import Path

from quintile_trainer import threads

NICE = 10
GONE_S = 5.0
TORCH = ("torch", "torch.distributed", "torch.nn.parallel", "torch.utils.data")
MODULES = {
    "training": (*TORCH, "quintile_trainer.training"),
    # torch's own optimizers and DistributedDataParallel load its compiler at their first use.
    "script": (*TORCH, "torch._dynamo", "quintile_trainer.script", "quintile_trainer.reporter"),
    "servers": (*TORCH, "quintile_trainer.ps.program"),
}
"""What each kind of rank imports; user code is never among it."""
HOROVOD = "horovod"
SINGLE_THREADED = {
    **dict.fromkeys((*threads.VARIABLES, "VECLIB_MAXIMUM_THREADS"), "1"),
    # pyarrow's allocator would keep a thread for its housekeeping.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Variables of a zygote: libraries that find them start no threads while they load."""


def load(kinds: list[str]) -> None:
    """Import the modules of some kinds of ranks.

    A thread does it: priority is a thread's own here, and the ranks to come, which are forked by
    the main thread, keep theirs.

    Raises:
        ImportError: One cannot be imported.
    """
    faults: list[Exception] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            for kind in kinds:
                _load_kind(kind)
        except Exception as error:  # the boundary of the thread: the caller raises it
            faults.append(error)

    thread = threading.Thread(target=work, name="preloading")
    thread.start()
    thread.join()
    _await_gone(thread.native_id)
    if faults:
        raise ImportError(f"{type(faults[0]).__name__}: {faults[0]}") from faults[0]


def _await_gone(thread_id: int | None) -> None:
    """Return when the kernel no longer knows a thread that Python has joined, a moment later."""
    place = Path(f"/proc/self/task/{thread_id}")
    deadline = time.monotonic() + GONE_S
    while place.exists() and time.monotonic() < deadline:
        time.sleep(0.001)


def _load_kind(kind: str) -> None:
    if kind == HOROVOD:
        _load_horovod()
        return
    for name in MODULES[kind]:
        importlib.import_module(name)


def _load_horovod() -> None:
    """Load real Horovod where it loads; the rank decides what to do where it does not."""
    try:
        importlib.import_module("horovod.torch")
    except (ImportError, OSError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "horovod"]:
            del sys.modules[name]
