"""Commits of ``hvd.elastic`` as checkpoints: rank 0 writes them now and then, a start finds them.

``run`` takes the place of ``horovod.torch.elastic.run``, of the real package and of our shim alike.
The platform restarts all ranks in place when one is lost or their number changes; so a rank goes on
from the newest checkpoint, calls what the script registered for a reset, and shares the state. It
leaves at a commit when the run wants it to. Outside of a rank only the sharing is left.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from quintile_trainer import checkpoints, context, failures, worker_env

FILE = "hvd-elastic.pt"
EVERY_S = 10.0
"""Between two checkpoints, at least; commits may come with every batch."""
AGREEMENT = "quintile.leaving"
AnyRank = Callable[[bool], bool]
"""Returns on all ranks whether one of them said True. Every rank calls it."""


def run(function: Callable[..., Any], any_rank: AnyRank) -> Callable[..., Any]:
    """Return ``function`` with its first argument, a state, restored and shared before it runs."""

    @functools.wraps(function)
    def wrapper(state: Any, *given: Any, **named: Any) -> Any:
        try:
            rank = context.current()
        except context.NotInRank:
            state.sync()
            return function(state, *given, **named)
        kept = rank.keep_commits(state, any_rank)
        state.sync()
        with contextlib.closing(kept):
            return function(state, *given, **named)

    return wrapper


def take_over() -> None:
    """Give scripts our ``run`` for that of real Horovod, which has loaded."""
    engine = importlib.import_module("horovod.torch")

    def any_rank(wish: bool) -> bool:
        value = torch.tensor([float(wish)])
        return bool(engine.allreduce(value, name=AGREEMENT, op=engine.Max) > 0)

    engine.elastic.run = functools.partial(run, any_rank=any_rank)


class Commits:
    """The commits of one state. Made on every rank; used by one thread.

    Args:
        env: Who the rank is.
        rank: What it was asked and told.
        state: An ``ObjectState`` or ``TorchState``.
        any_rank: How the ranks agree.
        clock: Of the pause between checkpoints, in seconds.
    """

    def __init__(
        self,
        env: worker_env.WorkerEnv,
        rank: context.Context,
        state: Any,
        any_rank: AnyRank,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._env = env
        self._rank = rank
        self._state = state
        self._any_rank = any_rank
        self._clock = clock
        self._saver = checkpoints.Saver(env) if env.rank == 0 and has_names(state) else None
        self._due_at = clock()
        self._count = self._written = max(rank.restored_step(), 0)
        self._commit = state.commit
        state.commit = self.commit
        # Horovod asks here, at each commit and when a script wants it, whether to stop for others.
        state.check_host_updates = self.check
        if not has_names(state):
            sys.stderr.write(
                f"[quintile] commits of a {type(state).__name__} are no checkpoints; expected an "
                "ObjectState or a TorchState of hvd.elastic\n"
            )

    def restore(self) -> None:
        """Go on from the newest checkpoint, if there is one and it is of commits.

        Raises:
            RuntimeError: It does not fit what the script has made.
        """
        folder = self._rank.restored_folder()
        if folder is None or not (folder / FILE).is_file():
            return
        apply(self._state, read(folder))
        self._state.save()
        self._state.on_reset()

    def commit(self) -> None:
        """Commit, and begin to write a checkpoint if the last one is old enough.

        Raises:
            Yielded: All ranks leave; the state is saved.
            DiskFull: The checkpoint before this one did not fit.
        """
        self._count += 1
        self._rank.count_commits(self._count)
        self._commit()
        if self._clock() >= self._due_at:
            self._write()

    def check(self) -> None:
        """Save the state and leave if a rank was asked to. Raises as ``commit``."""
        if not self._any_rank(self._rank.should_stop()):
            return
        self._state.save()
        self._write()
        self.close()
        raise failures.Yielded(f"asked to leave after commit {self._count}; the state is saved")

    def close(self) -> None:
        """Wait until what was begun is written. Raises DiskFull."""
        if self._saver is not None:
            self._saver.wait()

    def _write(self) -> None:
        told = self._rank.newest_step()
        if self._saver is None or (self._rank.reads and told <= self._written):
            return
        step = max(told if told >= 0 else self._count, self._written + 1)
        place = self._rank.place(step)
        manifest = self._env.manifest(step=step, epoch=place[0], cursor=place[1], metrics={})
        data = packed(self._state)
        self._saver.put({FILE: lambda file: file.write(data)}, manifest)
        self._written, self._due_at = step, self._clock() + EVERY_S


def has_names(state: Any) -> bool:
    """Return whether a state says what it consists of, as Horovod's own do."""
    return hasattr(state, "_saved_state")


def packed(state: Any) -> bytes:
    """Return a state as bytes: what has a ``state_dict`` by it, all else as it is."""
    whole = {
        "states": {name: getattr(state, name).state_dict() for name in _stateful(state)},
        "values": {name: getattr(state, name) for name in state._saved_state},
    }
    buffer = io.BytesIO()
    torch.save(whole, buffer, pickle_module=cloudpickle)
    return buffer.getvalue()


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a checkpoint of commits holds, on the CPU.

    A pickle: it runs what the user's objects say, in the user's own rank.
    """
    found: dict[str, dict[str, Any]] = torch.load(
        folder / FILE, map_location="cpu", weights_only=False
    )
    return found


def apply(state: Any, saved: dict[str, dict[str, Any]]) -> None:
    """Put saved states and values into a state; names that it does not have are left out."""
    for name in _stateful(state):
        if name in saved["states"]:
            getattr(state, name).load_state_dict(saved["states"][name])
    for name in [name for name in state._saved_state if name in saved["values"]]:
        setattr(state, name, saved["values"][name])


def _stateful(state: Any) -> list[str]:
    return list(getattr(state, "_handlers", ()))
