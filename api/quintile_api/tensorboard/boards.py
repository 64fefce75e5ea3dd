"""Which TensorBoards run: started when asked for, few at once, stopped when nobody looks.

One thread owns all processes (the kernel ends them with it) and writes their event files. It starts
with the first board.
"""

from __future__ import annotations

import logging
import os
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from quintile import ports
from quintile.adapters import sql
from quintile.core import errors
from quintile_api.tensorboard import event_sync, process

SYNC_S: Final = 2.0
WAIT_S: Final = 90.0
ROOT: Final = "quintile-tb-"
"""Name of the folder of all boards of a process, with its id: short, for the sockets' addresses."""

_LOG = logging.getLogger("quintile.tensorboard")


@dataclass(frozen=True)
class Place:
    """An experiment as TensorBoard shows it: ``uid`` is the experiment's."""

    project: str
    name: str
    uid: str
    prefix: str


@dataclass
class _Board:
    place: Place
    process: process.Process
    used_s: float
    is_ready: bool = False
    failure: errors.QuintileError | None = None
    runs: dict[str, event_sync.EventSync] = field(default_factory=dict)


class Boards:
    """All TensorBoards of this process of the API. Thread-safe.

    Args:
        database: Where metric points lie.
        resources: Where trials lie.
        limit: How many may run at once; the least recently used one gives way.
        idle_s: After which time without a request one is stopped.
        now: The monotonic time in seconds.
    """

    def __init__(
        self,
        database: sql.Database,
        resources: ports.ResourceStore,
        *,
        limit: int,
        idle_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._resources = resources
        self._limit = limit
        self._idle_s = idle_s
        self._now = now
        self._boards: dict[str, _Board] = {}
        self._leaving: list[_Board] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._root: pathlib.Path | None = None

    def start(self) -> None:
        """Nothing: the first board starts the thread."""

    def stop(self) -> None:
        """End all of them. Idempotent; a later ``open`` works again."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._stopping = True
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def running(self) -> Mapping[str, str]:
        """Return the names of the experiments whose TensorBoard runs, by uid; starts nothing."""
        with self._changed:
            return {uid: board.place.name for uid, board in self._boards.items() if board.is_ready}

    def find(self, place: Place) -> pathlib.Path | None:
        """Return the socket of a board that runs, None when none does; notes that it is used."""
        with self._changed:
            board = self._boards.get(place.uid)
            if board is None or not board.is_ready or not board.process.is_alive:
                return None
            board.used_s = self._now()
            return board.process.socket

    def open(self, place: Place) -> pathlib.Path:
        """Return the socket of an experiment's board, started if it does not run.

        Raises:
            Unavailable: It cannot be started.
        """
        process.check_installed()
        known = self.find(place)
        if known is not None:
            return known
        with self._changed:
            board = self._wanted(place)
            self._changed.notify_all()
            self._changed.wait_for(lambda: board.is_ready or board.failure, timeout=WAIT_S)
            if board.failure is not None:
                raise board.failure
            if not board.is_ready:
                raise errors.Unavailable("TensorBoard takes long to start.", hint="Try again.")
            return board.process.socket

    def _wanted(self, place: Place) -> _Board:
        """Return the board that is being started for a place. The lock is held."""
        board = self._boards.get(place.uid)
        if board is not None and (not board.is_ready or board.process.is_alive):
            return board
        if board is not None:
            self._leaving.append(self._boards.pop(place.uid))
        while len(self._boards) >= self._limit:
            oldest = min(self._boards.values(), key=lambda one: one.used_s)
            self._leaving.append(self._boards.pop(oldest.place.uid))
        self._ensure_thread()
        assert self._root is not None
        folder = pathlib.Path(tempfile.mkdtemp(dir=self._root))
        made = _Board(place, process.Process(folder, prefix=place.prefix), used_s=self._now())
        self._boards[place.uid] = made
        return made

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._stopping = False
            sweep(pathlib.Path(tempfile.gettempdir()))
            self._root = pathlib.Path(tempfile.mkdtemp(prefix=f"{ROOT}{os.getpid()}-"))
            self._thread = threading.Thread(
                target=self._run, args=(self._root,), name="tensorboards", daemon=True
            )
            self._thread.start()

    def _run(self, root: pathlib.Path) -> None:
        while not self._stopping:
            self._turn()
            with self._changed:
                self._changed.wait_for(self._is_urgent, timeout=SYNC_S)
        with self._changed:
            left = [*self._boards.values(), *self._leaving]
            self._boards, self._leaving = {}, []
        for board in left:
            board.failure = board.failure or errors.Unavailable("The server stops.")
            board.process.stop()
        shutil.rmtree(root, ignore_errors=True)

    def _is_urgent(self) -> bool:
        waiting = any(not board.is_ready for board in self._boards.values())
        return self._stopping or bool(self._leaving) or waiting

    def _turn(self) -> None:
        """Stop what nobody looks at, start what is wanted, write what is new."""
        with self._changed:
            for uid, board in list(self._boards.items()):
                idle = self._now() - board.used_s > self._idle_s
                if board.is_ready and (idle or not board.process.is_alive):
                    self._leaving.append(self._boards.pop(uid))
            leaving, self._leaving = self._leaving, []
            present = list(self._boards.values())
        for board in leaving:
            board.process.stop()
            self._settle(board, errors.Unavailable("Other TensorBoards took its place."))
        for board in present:
            self._serve(board)

    def _serve(self, board: _Board) -> None:
        try:
            self._sync(board)
            if not board.is_ready:
                board.process.start()
                self._settle(board, None)
        except (errors.QuintileError, OSError) as error:
            _LOG.warning("TensorBoard of %s: %s", board.place.name, error)
            if not board.is_ready:
                with self._changed:
                    self._boards.pop(board.place.uid, None)
                board.process.stop()
                self._settle(board, errors.Unavailable(f"TensorBoard did not start: {error}"))

    def _settle(self, board: _Board, failure: errors.QuintileError | None) -> None:
        with self._changed:
            if failure is None:
                board.is_ready = True
                board.used_s = self._now()
            elif not board.is_ready:
                board.failure = failure
            self._changed.notify_all()

    def _sync(self, board: _Board) -> None:
        place = board.place
        for trial in self._resources.list("Trial", namespace=place.project).items:
            name, uid = trial["metadata"]["name"], trial["metadata"]["uid"]
            if trial["spec"]["experimentUid"] == place.uid and uid not in board.runs:
                folder = board.process.runs / name
                board.runs[uid] = event_sync.EventSync(self._database, uid, folder)
        for run in board.runs.values():
            run.update()


def sweep(folder: pathlib.Path) -> None:
    """Delete what servers that were killed left behind."""
    for path in folder.glob(f"{ROOT}*-*"):
        pid = path.name.removeprefix(ROOT).partition("-")[0]
        gone = pid.isdigit() and not pathlib.Path(f"/proc/{pid}").exists()
        if gone and path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)
