"""The process of one parameter server: one thread, one loop over all connections.

``run`` is the entry for a rank of role ``ps``. It returns once every worker said goodbye; whatever
else ends it is an exception that says which peer was at fault.
"""

from __future__ import annotations

import contextlib
import gc
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quintile_trainer import failures
from quintile_trainer.ps import (
    calling,
    endpoint,
    frames,
    handshake,
    peers,
    service,
    settings,
)

BACKLOG = 512
BURST = 16
FAREWELL_S = 2.0


@dataclass(frozen=True)
class Place:
    """Which server this is, and the interface it listens on (and is reached by)."""

    team: settings.Team
    server: int
    host: str


def run(
    place: Place,
    secret: bytes,
    *,
    listener: socket.socket | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Serve until every worker left; return the final counters (``Service.status``).

    Args:
        place: Who we are.
        secret: The trial's token.
        listener: A listening socket to use; server 0 otherwise takes the team's port, the others
            any free one.
        stop: Asked a few times a second; True ends the server at once.

    Raises:
        PeerLost: A worker or another server is gone or late; the message names it.
        Refused: Server 0 does not accept us; ``Fenced`` if it is of another generation.
    """
    own = listener if listener is not None else listen(place)
    loop = _Loop(place, secret, own)
    # Models and libraries live as long as the process: the collector need not look at them.
    gc.freeze()
    try:
        return loop.run(stop)
    finally:
        loop.close()


def listen(place: Place) -> socket.socket:
    """Return the listening socket of a server.

    Raises:
        PeerLost: The port is taken; the next generation has another one.
    """
    port = place.team.port if place.server == 0 else 0
    try:
        return socket.create_server((place.host, port), backlog=BACKLOG)
    except OSError as error:
        raise failures.PeerLost(
            f"parameter server {place.server} cannot listen on {place.host}:{port}: {error}"
        ) from error


class _Loop:
    def __init__(self, place: Place, secret: bytes, listener: socket.socket) -> None:
        self._place = place
        self._listener = listener
        self._limits = place.team.limits
        port: int = listener.getsockname()[1]
        self._address = (place.host, port)
        self._service = service.Service(
            place.team, server=place.server, secret=secret, address=self._address
        )
        self._secret = secret
        self._selector = selectors.DefaultSelector()
        self._peers: set[peers.Peer] = set()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)

    def run(self, stop: Callable[[], bool]) -> dict[str, Any]:
        """Serve; see the module's ``run``."""
        try:
            if self._place.server != 0:
                self._join()
            self._serve(stop)
        except failures.RankFailure as error:
            self._tell_all(str(error))
            raise
        self._service.part()
        self._flush()
        return self._service.status()

    def close(self) -> None:
        """Close every socket."""
        for peer in self._peers:
            peer.end.close()
        self._listener.close()
        self._selector.close()

    def _join(self) -> None:
        """Connect to server 0 and tell it where we listen."""
        team = self._place.team
        number = self._place.server
        greeting = handshake.Greeting("server", number, team.generation, handshake.challenge())
        deadline = time.monotonic() + self._limits.meeting_s
        first = (team.host, team.port)
        end = calling.call(first, self._secret, greeting, server=0, deadline=deadline)
        peer = self._watch(end, f"{team.host}:{team.port}")
        peer.role, peer.number = "server", 0
        self._service.add_server(peer)
        host, port = self._address
        peer.send_text(frames.REGISTER, {"host": host, "port": port})

    def _serve(self, stop: Callable[[], bool]) -> None:
        next_check = 0.0
        while not self._service.is_over and not stop():
            for key, events in self._selector.select(self._limits.slice_s):
                if key.data is None:
                    self._accept()
                else:
                    self._turn(key.data, events)
            now = time.monotonic()
            if now >= next_check:
                next_check = now + self._limits.slice_s
                self._service.check(now)
                self._expire(now)
            self._drop_broken()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                sock, address = self._listener.accept()
                self._watch(endpoint.Endpoint(sock), f"{address[0]}:{address[1]}")

    def _watch(self, end: endpoint.Endpoint, address: str) -> peers.Peer:
        peer = peers.Peer(end, self._selector, address)
        self._selector.register(end.sock, selectors.EVENT_READ, peer)
        self._peers.add(peer)
        return peer

    def _turn(self, peer: peers.Peer, events: int) -> None:
        """Give one peer its turn: one payload at most, so that no peer starves the others."""
        if events & selectors.EVENT_WRITE:
            peer.flush()
        if not events & selectors.EVENT_READ or peer.broken:
            return
        current = self._service

        def target(header: frames.Header) -> memoryview:
            return current.target(peer, header)

        try:
            for _ in range(BURST):
                found = peer.end.receive(target)
                if found is None:
                    return
                current.on_frame(peer, *found)
                if found[1] is not None or peer.broken:
                    return
        except endpoint.Closed as error:
            peer.broken = peer.broken or str(error)
        except peers.Malformed as error:
            peer.refuse(str(error))
        except (KeyError, TypeError, ValueError, failures.BadInput) as error:
            # Documents of other releases; the peer is told, the server goes on.
            peer.refuse(f"its request cannot be read: {type(error).__name__}: {error}")

    def _expire(self, now: float) -> None:
        """Close connections that did not prove who they are in time."""
        for peer in self._peers:
            if not peer.role and now - peer.since > self._limits.handshake_s:
                peer.broken = peer.broken or "it did not prove who it is in time"

    def _drop_broken(self) -> None:
        for peer in [peer for peer in self._peers if peer.broken]:
            self._peers.discard(peer)
            self._selector.unregister(peer.end.sock)
            peer.end.close()
            self._service.on_closed(peer)

    def _tell_all(self, reason: str) -> None:
        """Say why we end, as far as the others still listen."""
        for peer in self._peers:
            if peer.role and not peer.broken:
                peer.send_text(frames.FAILED, {"reason": reason})
        self._flush()

    def _flush(self) -> None:
        deadline = time.monotonic() + FAREWELL_S
        while time.monotonic() < deadline:
            waiting = [peer for peer in self._peers if peer.end.is_sending and not peer.broken]
            if not waiting:
                return
            for key, events in self._selector.select(self._limits.slice_s):
                if key.data is not None and events & selectors.EVENT_WRITE:
                    key.data.flush()
