"""What server 0 does for workers beside parameters: reductions, barriers and leases."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from quintile_trainer import failures
from quintile_trainer.ps import frames, ledger, memory, peers

VALUES_LIMIT_BYTES = 64 << 20


@dataclass
class Gathering:
    """Values of one reduction, by worker."""

    header: frames.Header
    since: float
    parts: dict[int, torch.Tensor] = field(default_factory=dict)
    asking: dict[int, peers.Peer] = field(default_factory=dict)


class Reductions:
    """Sums and maxima over all workers, in rank order; without values, a barrier."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._open: dict[int, Gathering] = {}
        self._answers: dict[int, bytes] = {}

    def add(self, peer: peers.Peer, header: frames.Header, payload: memoryview | None) -> None:
        """Take a worker's values for reduction ``header.step``; the last one answers all.

        Raises:
            Malformed: Workers disagree about what they reduce.
        """
        known = self._answers.get(header.step)
        if known is not None:
            self._send(peer, header, known)
            return
        values = torch.zeros(header.length // 8, dtype=torch.float64)
        if payload is not None:
            memory.view(values)[:] = payload
        gathering = self._open.setdefault(header.step, Gathering(header, time.monotonic()))
        first = gathering.header
        if (first.flags, first.length) != (header.flags, header.length):
            raise peers.Malformed(
                f"worker {peer.number} reduces other values than worker {first.worker}: ranks "
                "must make the same calls in one order"
            )
        gathering.parts[peer.number] = values
        gathering.asking[peer.number] = peer
        if len(gathering.parts) == self._workers:
            self._finish(gathering)

    def check(self, now: float, limit_s: float, gone: frozenset[int]) -> None:
        """Look for reductions that wait too long, or for workers that left.

        Raises:
            PeerLost: Names who is missing.
        """
        for gathering in self._open.values():
            missing = [w for w in range(self._workers) if w not in gathering.parts]
            left = [worker for worker in missing if worker in gone]
            if left or now - gathering.since > limit_s:
                late = ", ".join(str(worker) for worker in left or missing)
                why = "left" if left else f"did not come within {limit_s:g} s"
                raise failures.PeerLost(f"worker {late} {why}, the others wait at a barrier")

    def _finish(self, gathering: Gathering) -> None:
        total = gathering.parts[0]
        for worker in range(1, self._workers):
            if gathering.header.flags & frames.MAXIMUM:
                torch.maximum(total, gathering.parts[worker], out=total)
            else:
                total += gathering.parts[worker]
        answer = bytes(memory.view(total))
        number = gathering.header.step
        del self._open[number]
        # A worker may ask once more for the newest one only.
        self._answers = {number: answer}
        for peer in gathering.asking.values():
            self._send(peer, gathering.header, answer)

    def _send(self, peer: peers.Peer, header: frames.Header, answer: bytes) -> None:
        head = frames.Header(frames.REDUCE, length=len(answer), step=header.step)
        peer.send(head.pack(), answer)


def lease(book: ledger.Ledger | None, peer: peers.Peer, header: frames.Header) -> None:
    """Complete the lease that ``header.lease`` names (start + 1), and give another.

    ``header.version`` is the wished size; 0 asks for none. ``DONE`` ends leasing for everybody.

    Raises:
        Malformed: The job leases nothing.
    """
    if book is None:
        raise peers.Malformed("it asked for a lease, but the job leases no positions")
    if header.flags & frames.DONE:
        book.close()
    if header.lease:
        book.complete(header.lease - 1)
    found = book.take(peer.number, header.step, header.version) if header.version else None
    answer = frames.Header(frames.LEASE, flags=frames.DONE, step=header.step)
    if found is not None:
        answer = answer._replace(flags=0, version=found.start, lease=found.stop)
    peer.send(answer.pack())
