"""Pushes and pulls on one server: what is let in, in which order, and who waits for what."""

from __future__ import annotations

import time
from dataclasses import dataclass

from quintile_trainer import failures
from quintile_trainer.ps import clocks, frames, job, memory, peers, staleness, store


@dataclass(frozen=True)
class Wait:
    """Somebody waits for the parameters of a chunk."""

    peer: peers.Peer
    header: frames.Header
    clock: int
    since: float


@dataclass(frozen=True)
class Push:
    """One part of a push, not let in yet."""

    peer: peers.Peer
    header: frames.Header
    buffer: memory.Buffer | None


class Updates:
    """The heart of a server. ``completed`` tells whose push just became complete here, or None."""

    def __init__(self, about: job.Job, *, server: int, workers: int) -> None:
        self.store = store.Store(about.plan, about.rule, server=server, workers=workers)
        self.store.begin(about.clock)
        self.clocks = clocks.Clocks(workers, parts=len(self.store.chunks), start=about.clock)
        self.cut: clocks.Cut | None = None
        self.histogram = staleness.Histogram()
        self.updates = 0
        self.duplicates = 0
        self._ordering = about.consistency.ordering
        self._bound = about.consistency.bound if self._ordering == "ssp" else None
        self._waits: dict[tuple[int, int], Wait] = {}
        self._held: list[Push] = []
        self._workers = range(workers)

    def buffer(self, header: frames.Header) -> memory.Buffer:
        """Return memory for the payload of a push.

        Raises:
            Malformed: The chunk is not here, or has another size.
        """
        about = self._chunk(header).about
        if header.length != about.size_bytes:
            raise peers.Malformed(
                f"it pushed {header.length} bytes for chunk {about.number} of {about.size_bytes}"
            )
        return self.store.pool.take(about.size, about.dtype)

    def push(self, push: Push) -> bool:
        """Take one part of a push; return whether the whole push is complete on this server.

        Raises:
            Malformed: The push skips one.
        """
        header, worker, number = push.header, push.header.worker, push.header.step + 1
        if number <= self._last(header):
            self.duplicates += 1
            self._give_back(push)
            self._answer(push.peer, header, number)
            return False
        if not self.clocks.expects(worker, number):
            raise peers.Malformed(
                f"it pushed step {header.step}, expected step {self.clocks.complete[worker]}"
            )
        if self.cut is not None and not self.cut.admits(worker, number):
            self._held.append(push)
            return False
        return self._let_in(push, number)

    def pull(self, peer: peers.Peer, header: frames.Header) -> None:
        """Send a chunk's parameters, now or when the ordering allows it."""
        self._chunk(header)
        self._answer(peer, header._replace(flags=frames.WANT), header.step)

    def advance(self) -> list[Push]:
        """Go on after a clock moved: take a due snapshot, answer who waited.

        Returns pushes that were held for the cut; the caller pushes them again.
        """
        if self.cut is not None and self.cut.is_due(self.clocks):
            self.store.snapshot()
            self.cut.taken = True
        if self._ordering == "ssp":
            for key, wait in list(self._waits.items()):
                if self._is_ready(wait.header, wait.clock):
                    del self._waits[key]
                    self._send(wait.peer, wait.header)
        return self._released()

    def forget(self, peer: peers.Peer) -> None:
        """Drop what a closed connection waited for; the worker asks again when it is back."""
        self._waits = {key: wait for key, wait in self._waits.items() if wait.peer is not peer}

    def end_cut(self) -> list[Push]:
        """End the cut, taken or not. Returns as ``advance``."""
        self.cut = None
        self.store.forget()
        return self._released()

    def check(self, now: float, limit_s: float, gone: frozenset[int]) -> None:
        """Look for waits that are too long, or for workers in ``gone``, who never push again.

        Raises:
            PeerLost: Names who is late, and for what.
        """
        for wait in self._waits.values():
            late = self._late(wait)
            step = (wait.clock if self._bound is None else wait.clock - self._bound) - 1
            hopeless = [worker for worker in late if worker in gone]
            if hopeless and self._ordering == "sync":
                raise failures.PeerLost(
                    f"{_named(hopeless)} left before pushing step {step}, which "
                    f"worker {wait.header.worker} waits for"
                )
            if now - wait.since > limit_s:
                raise failures.PeerLost(
                    f"{_named(late)} did not push step {step} within {limit_s:g} s; "
                    f"worker {wait.header.worker} waits for it"
                )

    def _late(self, wait: Wait) -> tuple[int, ...]:
        if self._ordering == "sync":
            return self.clocks.behind(wait.clock)
        return self.clocks.behind(wait.clock - (self._bound or 0))

    def _let_in(self, push: Push, number: int) -> bool:
        header, worker = push.header, push.header.worker
        if header.chunk != frames.WHOLE:
            chunk = self._chunk(header)
            chunk.last[worker] = number
            assert push.buffer is not None
            if self._ordering == "sync":
                self._sum(chunk, push.buffer, header)
            else:
                self._apply(chunk, push.buffer, header)
        complete = self.clocks.note(worker, number)
        self._answer(push.peer, header, number)
        return complete

    def _sum(self, chunk: store.Chunk, buffer: memory.Buffer, header: frames.Header) -> None:
        if header.worker == 0:
            chunk.rate = header.rate
        mean = chunk.sum.add(header.worker, buffer)
        if mean is None:
            return
        self.store.apply(chunk, mean, chunk.rate)
        self.updates += 1
        chunk.sum.clear()
        for worker in self._workers:
            wait = self._waits.pop((worker, chunk.about.number), None)
            if wait is not None:
                self._send(wait.peer, wait.header)

    def _apply(self, chunk: store.Chunk, buffer: memory.Buffer, header: frames.Header) -> None:
        self.histogram.note(chunk.version - header.version)
        # For float32 this is the buffer itself, which the step uses up.
        self.store.apply(chunk, buffer.tensor.float(), header.rate)
        self.updates += 1
        self.store.pool.give(buffer)

    def _answer(self, peer: peers.Peer, header: frames.Header, clock: int) -> None:
        if not header.flags & frames.WANT or header.chunk == frames.WHOLE:
            peer.acknowledge(header)
        elif self._is_ready(header, clock):
            self._send(peer, header)
        else:
            key = (header.worker, header.chunk)
            self._waits[key] = Wait(peer, header, clock, time.monotonic())

    def _is_ready(self, header: frames.Header, clock: int) -> bool:
        if self._ordering == "sync":
            return self.store.chunks[header.chunk].version >= clock
        return self.clocks.may_read(clock, self._bound)

    def _send(self, peer: peers.Peer, header: frames.Header) -> None:
        chunk = self.store.chunks[header.chunk]
        payload = chunk.bytes_to_send()
        head = frames.Header(
            frames.VALUE,
            chunk=header.chunk,
            length=len(payload),
            step=header.step,
            version=chunk.version,
        ).pack()
        if self._ordering == "sync" or chunk.wire is None:
            # In sync nothing changes before this worker, too, has pushed the next step.
            peer.send(head, payload)
        else:
            peer.send_live(head, payload)

    def _released(self) -> list[Push]:
        cut = self.cut
        held, self._held = self._held, []
        free = []
        for push in held:
            if cut is None or cut.admits(push.header.worker, push.header.step + 1):
                free.append(push)
            else:
                self._held.append(push)
        return free

    def _last(self, header: frames.Header) -> int:
        if header.chunk == frames.WHOLE:
            if self.store.chunks:
                raise peers.Malformed("it pushed no chunk to a server that has some")
            return self.clocks.complete[header.worker]
        return self._chunk(header).last[header.worker]

    def _chunk(self, header: frames.Header) -> store.Chunk:
        chunk = self.store.chunks.get(header.chunk)
        if chunk is None:
            raise peers.Malformed(f"it asked for chunk {header.chunk}, which is not on this server")
        return chunk

    def _give_back(self, push: Push) -> None:
        if push.buffer is not None:
            self.store.pool.give(push.buffer)


def _named(workers: tuple[int, ...] | list[int]) -> str:
    words = ", ".join(str(worker) for worker in workers)
    return f"worker {words}" if len(workers) == 1 else f"workers {words}"
