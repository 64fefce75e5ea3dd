"""What a forked process does to be the rank that a fresh interpreter would be."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import sys
from pathlib import Path

from quintile_trainer import threads
from quintile_trainer.zygote import wire

PR_SET_NAME = 15
_OPENBLAS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


class Unwanted(Exception):
    """Whoever asked for this rank is gone."""


def settle(request: wire.Json, files: list[int]) -> None:
    """Take over files, folder, environment and fresh random numbers; wait for the word to begin.

    Raises:
        Unwanted: The word never comes.
    """
    stdout, stderr, go = files
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    with open(go, "rb", buffering=0) as asker:  # noqa: PTH123 - an open file, not a path
        if asker.read(1) != wire.GO:
            raise Unwanted
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    name_process(f"rank-{request['rank']}")
    reseed()


def name_process(name: str) -> None:
    """Set the name that ``ps`` and ``top`` show; the environment shown there is the zygote's."""
    with contextlib.suppress(OSError):
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def reseed() -> None:
    """Seed anew what a fresh interpreter seeds by chance."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()


def set_threads(count: int) -> None:
    """Give libraries that have loaded, single-threaded, the threads that the environment says."""
    torch = sys.modules.get("torch")
    if torch is not None:
        # A torch with MKL takes MKL's number for all its work.
        by = "MKL_NUM_THREADS" if torch.backends.mkl.is_available() else "OMP_NUM_THREADS"
        torch.set_num_threads(wanted(by, count))
    for path in _loaded("openblas"):
        library = ctypes.CDLL(path)
        for name in _OPENBLAS:
            with contextlib.suppress(AttributeError):
                getattr(library, name)(ctypes.c_int(wanted("OPENBLAS_NUM_THREADS", count)))
                break


def wanted(variable: str, count: int) -> int:
    """Return the threads that a variable asks for; ``count`` where it does not say."""
    assert variable in threads.VARIABLES
    first = os.environ.get(variable, "").partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else count


def _loaded(word: str) -> set[str]:
    """Return the paths of loaded libraries with a word in their name."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {line[line.index("/") :] for line in lines if "/" in line}
    return {path for path in paths if word in path.rpartition("/")[2] and ".so" in path}
