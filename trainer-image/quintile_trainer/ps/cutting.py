"""The server's side of a checkpoint: one consistent cut through all servers.

A worker's second connection drives it. Server 0 names what belongs to the cut; every server takes
its snapshot after all of that and before anything later; then the copies are read, chunk by chunk,
while training goes on. A cut ends with the connection that asked for it.
"""

from __future__ import annotations

import time
from typing import Any

from quintile_trainer.ps import clocks, frames, ledger, peers, settings, updates


class Cutting:
    """At most one cut of one server."""

    def __init__(
        self,
        work: updates.Updates,
        consistency: settings.Consistency,
        book: ledger.Ledger | None,
        *,
        limit_s: float,
    ) -> None:
        self._work = work
        self._ordering = consistency.ordering
        self._book = book
        self._limit_s = limit_s
        self._owner: peers.Peer | None = None
        self._since = 0.0
        self._waiting: frames.Header | None = None
        self._facts: dict[str, Any] | None = None

    def open(self, peer: peers.Peer, header: frames.Header) -> list[updates.Push]:
        """Answer with what belongs to a cut that begins now; ``header.step`` is the asker's clock.

        sync: the asker's clock, which nobody can pass before it pushes again. ssp: the first clock
        that no worker has passed on any server; pushes of it are held until all servers know.
        async: what was let in here; everything later is held.
        """
        work = self._work.clocks
        count = len(work.begun)
        if not self._take(peer):
            return []
        if self._ordering == "sync":
            limits, targets = (header.step,) * count, (header.step,) * count
        elif self._ordering == "ssp":
            # Nobody pushes a step before all servers acknowledged the one before: no server can be
            # more than one push ahead of this one.
            newest = max(work.begun) + 1
            limits, targets = (newest - 1,) * count, (newest,) * count
        else:
            limits = targets = work.begun
        self._work.cut = clocks.Cut(limits)
        peer.send_text(frames.CUT_OPEN, list(targets), step=header.step)
        return self._work.advance()

    def name(self, peer: peers.Peer, document: Any) -> list[updates.Push]:
        """Fix the cut at the targets that all servers are told."""
        if not self._take(peer):
            return []
        if self._work.cut is None:
            self._work.cut = clocks.Cut(document)
        self._work.cut.name([int(value) for value in document])
        peer.send_text(frames.CUT_AT, {})
        return self.advance()

    def wait(self, peer: peers.Peer, header: frames.Header) -> None:
        """Answer once the snapshot is taken."""
        if peer is not self._owner:
            raise peers.Malformed("it waits for a cut that it did not open")
        self._waiting = header
        self._tell()

    def fetch(self, peer: peers.Peer, header: frames.Header) -> None:
        """Send one entry (``version``) of one chunk as it was at the cut."""
        if peer is not self._owner or self._facts is None:
            raise peers.Malformed("it reads a cut that it did not open, or that is not taken yet")
        if header.chunk not in self._work.store.chunks:
            raise peers.Malformed(f"it asked for chunk {header.chunk}, which is not here")
        copy = self._work.store.saved(header.chunk)
        payload = copy.entry(header.version)
        answer = frames.Header(
            frames.VALUE,
            chunk=header.chunk,
            length=len(payload),
            version=header.version,
            step=header.step,
            lease=copy.steps << 1 | copy.fresh,
        )
        peer.send(answer.pack(), payload)

    def advance(self) -> list[updates.Push]:
        """Go on after a clock moved. Returns pushes to let in."""
        free = self._work.advance()
        cut = self._work.cut
        if cut is not None and cut.taken and self._facts is None:
            positions = self._book.document() if self._book is not None else None
            # In sync a push of later steps may be here already: it is not in the sum that counts.
            limits = zip(self._work.clocks.complete, cut.limits, strict=True)
            self._facts = {"clocks": [min(pair) for pair in limits], "positions": positions}
            self._tell()
        return free

    def closed(self, peer: peers.Peer) -> list[updates.Push]:
        """End the cut if its connection closed. Returns pushes to let in."""
        return self._end() if peer is self._owner else []

    def check(self, now: float) -> list[updates.Push]:
        """Give up a cut that takes too long. Returns pushes to let in."""
        owner = self._owner
        if owner is None or self._facts is not None or now - self._since <= self._limit_s:
            return []
        targets = self._work.cut.targets if self._work.cut is not None else None
        late = self._work.clocks.behind(max(targets)) if targets else ()
        words = ", ".join(str(worker) for worker in late)
        owner.refuse(
            f"the cut was not reached within {self._limit_s:g} s"
            + (f"; it waits for worker {words}" if words else "")
        )
        return self._end()

    def _take(self, peer: peers.Peer) -> bool:
        if self._owner is not None and self._owner is not peer:
            peer.refuse("another checkpoint is being taken")
            return False
        self._owner = peer
        self._since = time.monotonic()
        return True

    def _tell(self) -> None:
        if self._waiting is not None and self._facts is not None and self._owner is not None:
            self._owner.send_text(frames.CUT_WAIT, self._facts)
            self._waiting = None

    def _end(self) -> list[updates.Push]:
        self._owner, self._waiting, self._facts = None, None, None
        return self._work.end_cut()
