"""One parameter server without its sockets: what each frame of each peer does.

Called by ``server``'s loop only. A frame that makes no sense raises ``Malformed`` and costs its
sender the connection; what ends the generation raises ``PeerLost``.
"""

from __future__ import annotations

import time
from typing import Any

from quintile_trainer import failures
from quintile_trainer.ps import (
    cutting,
    errands,
    frames,
    ledger,
    meeting,
    peers,
    settings,
    updates,
)


class Service:
    """Server ``server`` of a team."""

    def __init__(
        self, team: settings.Team, *, server: int, secret: bytes, address: tuple[str, int]
    ) -> None:
        self.team = team
        self.server = server
        self._door = peers.Door(team, server=server, secret=secret)
        self._meeting = meeting.Meeting(team, server=server, address=address)
        self._reductions = errands.Reductions(team.workers)
        self._book: ledger.Ledger | None = None
        self._cutting: cutting.Cutting | None = None
        self._workers: dict[int, peers.Peer] = {}
        self._arrived: set[int] = set()
        self._lost: dict[int, float] = {}
        self._left: set[int] = set()
        self._servers: dict[int, peers.Peer] = {}
        self._begun = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Return whether every worker said goodbye."""
        return len(self._left) == self.team.workers

    def target(self, peer: peers.Peer, header: frames.Header) -> memoryview:
        """Return the memory for a payload of ``header.length`` bytes.

        Raises:
            Malformed: Nothing of that size is expected.
        """
        if header.kind == frames.PUSH and peer.role == "worker":
            work = self._running(peer, header)
            peer.buffer = work.buffer(header)
            return peer.buffer.view
        if header.kind == frames.LOAD and peer.role == "worker":
            return self._meeting.place(header)
        limit = frames.JSON_LIMIT if peer.role else frames.GREETING_LIMIT
        if header.kind == frames.REDUCE and peer.role:
            limit = errands.VALUES_LIMIT_BYTES
        if header.length > limit or (header.kind == frames.REDUCE and header.length % 8):
            raise peers.Malformed(f"it announced {header.length} bytes; the limit is {limit}")
        return memoryview(bytearray(header.length))

    def on_frame(self, peer: peers.Peer, header: frames.Header, payload: memoryview | None) -> None:
        """Act on a whole frame.

        Raises:
            Malformed: It makes no sense.
            PeerLost: The generation cannot go on.
        """
        if not peer.role:
            if self._door.on_frame(peer, header, payload):
                self._enter(peer)
        elif peer.role == "worker":
            self._on_worker(peer, header, payload)
        elif peer.role == "reader":
            self._on_reader(peer, header, payload)
        else:
            self._on_server(peer, header, payload)

    def on_closed(self, peer: peers.Peer) -> None:
        """Note that a connection is gone.

        Raises:
            PeerLost: It was another server's.
        """
        if peer.buffer is not None and self._meeting.updates is not None:
            self._meeting.updates.store.pool.give(peer.buffer)
        if peer.role == "worker" and self._workers.get(peer.number) is peer:
            del self._workers[peer.number]
            self._lost[peer.number] = time.monotonic()
            if self._meeting.updates is not None:
                self._meeting.updates.forget(peer)
        elif peer.role == "reader" and self._cutting is not None:
            self._let_in(self._cutting.closed(peer))
        elif peer.role == "server" and not peer.left and not self.is_over:
            raise failures.PeerLost(
                f"parameter server {peer.number} at {peer.address} left: {peer.broken}"
            )

    def check(self, now: float) -> None:
        """Look at every deadline.

        Raises:
            PeerLost: Somebody is late; the message names who, and for what.
        """
        limits = self.team.limits
        self._meeting.check(self._arrived, now - self._begun)
        for worker, since in self._lost.items():
            if worker not in self._left and now - since > limits.reconnect_s:
                raise failures.PeerLost(
                    f"worker {worker} lost its connection to parameter server {self.server} and "
                    f"did not return within {limits.reconnect_s:g} s"
                )
        left = frozenset(self._left)
        self._reductions.check(now, limits.answer_s, left)
        if self._meeting.updates is not None:
            self._meeting.updates.check(now, limits.answer_s, left)
        if self._cutting is not None:
            self._let_in(self._cutting.check(now))

    def add_server(self, peer: peers.Peer) -> None:
        """Watch the connection to another server."""
        self._servers[peer.number] = peer

    def part(self) -> None:
        """Tell the other servers that this one ends in good order."""
        for peer in self._servers.values():
            peer.send(frames.Header(frames.BYE).pack())

    def status(self) -> dict[str, Any]:
        """Return counters and the staleness histogram as JSON."""
        work = self._meeting.updates
        if work is None:
            return {"updates": 0, "duplicates": 0, "staleness": {}, "clocks": [], "finished": 0}
        return {
            "updates": work.updates,
            "duplicates": work.duplicates,
            "staleness": work.histogram.document(),
            "clocks": list(work.clocks.complete),
            "finished": self._book.finished() if self._book is not None else 0,
        }

    def _enter(self, peer: peers.Peer) -> None:
        if peer.role == "worker":
            old = self._workers.get(peer.number)
            if old is not None:
                old.broken = old.broken or "replaced by a newer connection of the same worker"
                if self._meeting.updates is not None:
                    self._meeting.updates.forget(old)
            self._workers[peer.number] = peer
            self._arrived.add(peer.number)
            self._lost.pop(peer.number, None)
        elif peer.role == "server":
            self.add_server(peer)

    def _on_server(
        self, peer: peers.Peer, header: frames.Header, payload: memoryview | None
    ) -> None:
        if header.kind == frames.REGISTER:
            self._meeting.register(peer, peers.read_json(payload))
        elif header.kind == frames.BYE:
            peer.left = True
        elif header.kind == frames.FAILED:
            raise failures.PeerLost(str(peers.read_json(payload)["reason"]))
        else:
            raise peers.Malformed(f"a server sent a frame of kind {header.kind}")

    def _on_worker(
        self, peer: peers.Peer, header: frames.Header, payload: memoryview | None
    ) -> None:
        kind = header.kind
        if kind == frames.PUSH:
            self._running(peer, header)
            buffer, peer.buffer = peer.buffer, None
            self._let_in([updates.Push(peer, header, buffer)])
        elif kind == frames.PULL:
            self._running(peer, header).pull(peer, header)
        elif kind == frames.LEASE:
            errands.lease(self._book, peer, header)
        elif kind == frames.REDUCE:
            self._reductions.add(peer, header, payload)
        elif kind == frames.RETIRE:
            self._retire(peer.number)
            peer.acknowledge(header)
        elif kind == frames.STATUS:
            peer.send_text(frames.STATUS, self.status(), step=header.step)
        elif kind == frames.BYE:
            self._left.add(peer.number)
            if self._book is not None:
                self._book.release(peer.number)
            self._retire(peer.number)
            peer.acknowledge(header)
        else:
            self._on_beginner(peer, header, payload)

    def _on_beginner(
        self, peer: peers.Peer, header: frames.Header, payload: memoryview | None
    ) -> None:
        kind = header.kind
        if kind == frames.DIRECTORY:
            self._meeting.directory(peer)
        elif kind == frames.ATTACH:
            self._meeting.attach(peer, peers.read_json(payload))
        elif peer.number != 0:
            raise peers.Malformed(f"only worker 0 may send a frame of kind {kind}")
        elif kind == frames.SETUP:
            self._meeting.setup(peers.read_json(payload))
            peer.acknowledge(header)
        elif kind == frames.LOAD:
            self._meeting.loaded(peer, header)
        elif kind == frames.START:
            self._start()
            peer.acknowledge(header)
        else:
            raise peers.Malformed(f"it sent a frame of unknown kind {kind}")

    def _start(self) -> None:
        if self._meeting.started:
            return
        self._meeting.start()
        about, work = self._meeting.job, self._meeting.updates
        assert about is not None and work is not None
        if about.positions is not None and self.server == 0:
            self._book = about.positions.ledger()
        self._cutting = cutting.Cutting(
            work, about.consistency, self._book, limit_s=self.team.limits.cut_s
        )

    def _on_reader(
        self, peer: peers.Peer, header: frames.Header, payload: memoryview | None
    ) -> None:
        cut = self._cutting
        if cut is None:
            raise peers.Malformed("it asked for a cut before the job began")
        if header.kind == frames.CUT_OPEN:
            self._let_in(cut.open(peer, header))
        elif header.kind == frames.CUT_AT:
            self._let_in(cut.name(peer, peers.read_json(payload)))
        elif header.kind == frames.CUT_WAIT:
            cut.wait(peer, header)
        elif header.kind == frames.FETCH:
            cut.fetch(peer, header)
        else:
            raise peers.Malformed(f"a reader sent a frame of kind {header.kind}")

    def _let_in(self, pushes: list[updates.Push]) -> None:
        """Take pushes, and those that become free by it; a senseless one costs its own sender."""
        work, cut = self._meeting.updates, self._cutting
        while pushes:
            assert work is not None and cut is not None
            push = pushes.pop(0)
            try:
                complete = work.push(push)
            except peers.Malformed as error:
                push.peer.refuse(str(error))
                continue
            if complete:
                if self._book is not None and push.header.lease:
                    self._book.apply(push.header.lease - 1)
                pushes.extend(cut.advance())

    def _retire(self, worker: int) -> None:
        work = self._meeting.updates
        if work is not None and self._cutting is not None:
            work.clocks.retire(worker)
            self._let_in(self._cutting.advance())

    def _running(self, peer: peers.Peer, header: frames.Header) -> updates.Updates:
        work = self._meeting.updates
        if work is None or not self._meeting.started:
            raise peers.Malformed("it pushed or pulled before the job began")
        if header.worker != peer.number or header.generation != self.team.generation:
            raise peers.Malformed(
                f"its frame is of worker {header.worker}, generation {header.generation}; the "
                f"connection is of worker {peer.number}, generation {self.team.generation}"
            )
        return work
