"""Waiting for a word in shared memory to grow: look for a moment, then sleep in the kernel.

Every word has one writer, so storing it needs no lock. A writer wakes only ranks that say that they
sleep. Looking burns a core that the rank we wait for may need, so how long a rank looks adapts to
how often that helped.
"""

from __future__ import annotations

import ctypes
import enum
import platform
import threading
import time
from typing import Final

from quintile_trainer.shm import layout as layout_module
from quintile_trainer.shm import liveness, mapping, problems
from quintile_trainer.shm import settings as settings_module

_SYSCALL: Final = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}
_WAIT, _WAKE, _ALL = 0, 1, 2**31 - 1
_NAP_NS = 50_000_000
_LEAST_SPIN_NS = 1_000
_STRONG = platform.machine() in ("x86_64", "AMD64")
"""Whether the processor keeps stores, and loads, in order by itself."""


class State(enum.IntEnum):
    """Where a rank stands, in its word ``state``; a failed one adds the rank it blames."""

    JOINING = 0
    RUNNING = 1
    LEFT = 2
    FAILED = 3


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Waiter:
    """The words of one rank's group. Used by one thread at a time."""

    def __init__(self, memory: mapping.Memory, rank: int, given: settings_module.Settings) -> None:
        self._memory = memory
        self._words = memory.words
        self._rank = rank
        self._given = given
        layout = memory.layout
        self._others = tuple(peer for peer in range(layout.world_size) if peer != rank)
        self._awaits = layout.counter("awaits", rank)
        self._asleep = tuple(layout.counter("awaits", peer) for peer in self._others)
        self._states = {peer: layout.counter("state", peer) for peer in range(layout.world_size)}
        self._longest_spin_ns = given.spin_us * 1000
        self._spin_ns = self._longest_spin_ns
        self._fence = threading.Lock()
        self._fence.acquire()
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._number = _SYSCALL.get(platform.machine())

    def publish(self, word: int, value: int) -> None:
        """Store a word of this rank after all that was written before, and wake who waits."""
        words = self._words
        if not _STRONG:
            self.fence()
        words[word] = value
        # The store comes before the look at who sleeps; a sleeper says so before its last look.
        self.fence()
        me = self._rank + 1
        for asleep in self._asleep:
            if words[asleep] == me:
                self._wake(word)
                return

    def set_state(self, state: State, blamed: int = 0) -> None:
        """Tell the others where this rank stands."""
        self._words[self._states[self._rank]] = state | blamed << 8
        self.fence()

    def fence(self) -> None:
        """Keep all memory accesses before this before all after it."""
        # A release followed by an acquire of the same lock: no portable call does less.
        self._fence.release()
        self._fence.acquire()

    def until(self, word: int, value: int, peer: int, what: str) -> None:
        """Return once a word of another rank has reached a value.

        Raises:
            LateRank: It did not within the deadline, its process is gone, or a rank gave up.
        """
        words = self._words
        if words[word] < value and not self._spin(word, value):
            self._sleep(word, value, peer, what)

    def seen(self) -> None:
        """Read nothing of other ranks, after this, that is older than the words just looked at."""
        if not _STRONG:
            self.fence()

    def _spin(self, word: int, value: int) -> bool:
        words, clock = self._words, time.perf_counter_ns
        if self._longest_spin_ns == 0:
            return False
        end = clock() + self._spin_ns
        while words[word] < value:
            if clock() > end:
                self._spin_ns = max(self._spin_ns // 2, _LEAST_SPIN_NS)
                return False
        self._spin_ns = min(self._spin_ns * 2, self._longest_spin_ns)
        return True

    def _sleep(self, word: int, value: int, peer: int, what: str) -> None:
        words = self._words
        end = time.monotonic_ns() + int(self._given.deadline_s * 1e9)
        words[self._awaits] = peer + 1
        try:
            self.fence()
            while (seen := words[word]) < value:
                left = end - time.monotonic_ns()
                if left <= 0:
                    raise problems.LateRank(peer, self._late(peer, what))
                self._nap(word, seen, min(left, _NAP_NS))
                if words[word] < value:
                    self._check(word, value, peer, what)
        finally:
            words[self._awaits] = 0

    def _check(self, word: int, value: int, peer: int, what: str) -> None:
        """Raise when waiting on is in vain."""
        for other in self._others:
            state, blamed = self._state(other)
            if state == State.FAILED:
                why = "failed" if blamed == other else f"gave up: it waited for rank {blamed}"
                raise problems.LateRank(blamed, f"rank {other} {why}, before {what}")
        left = self._state(peer)[0] == State.LEFT
        gone = left or not liveness.is_alive(self._memory.descriptor, peer)
        # It may have done its part before it left, after we looked.
        if not gone or self._words[word] >= value:
            return
        how = "it left" if left else "its process is gone"
        raise problems.LateRank(peer, f"rank {peer} does not come to {what}: {how}")

    def _late(self, peer: int, what: str) -> str:
        return (
            f"rank {peer} did not come to {what} within {self._given.deadline_s:g} s; its process "
            "is alive: it is stopped, stuck, or does other work than the rest"
        )

    def _state(self, peer: int) -> tuple[State, int]:
        word = self._words[self._states[peer]]
        return State(word & 0xFF), word >> 8

    def _nap(self, word: int, seen: int, most_ns: int) -> None:
        if self._number is None:
            time.sleep(min(most_ns, 200_000) / 1e9)
            return
        limit = _Timespec(most_ns // 1_000_000_000, most_ns % 1_000_000_000)
        address = ctypes.c_void_p(self._memory.address + word * layout_module.WORD)
        low = ctypes.c_uint(seen & 0xFFFFFFFF)
        self._call(self._number, address, _WAIT, low, ctypes.byref(limit), None, 0)

    def _wake(self, word: int) -> None:
        if self._number is not None:
            address = ctypes.c_void_p(self._memory.address + word * layout_module.WORD)
            self._call(self._number, address, _WAKE, _ALL, None, None, 0)
