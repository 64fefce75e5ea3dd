"""A worker's connections to all servers, and exchanges over them.

An exchange is a set of requests, each with one answer. Every request may be repeated without harm
(servers know what they took), so a lost connection is made anew and what was not answered is sent
again.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quintile_trainer import failures
from quintile_trainer.ps import calling, endpoint, frames, handshake, settings

Address = tuple[str, int]
Place = Callable[[frames.Header], memoryview]


@dataclass
class Request:
    """A frame to ``server`` and what its answer looks like: (chunk, step)."""

    server: int
    header: frames.Header
    payload: endpoint.Bytes | None = None
    sent: bool = False
    answer: frames.Header | None = None
    content: memoryview | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """Return what the answer repeats."""
        return self.server, self.header.chunk, self.header.step


Open = dict[tuple[int, int, int], Request]
"""Requests without an answer, by key."""


class Links:
    """Connections of one worker.

    Args:
        team: Whom to connect to.
        secret: The trial's token.
        worker: Our rank.
        role: ``worker``, or ``reader`` for checkpoints.
    """

    def __init__(
        self, team: settings.Team, secret: bytes, *, worker: int, role: handshake.Role = "worker"
    ) -> None:
        self.team = team
        self.worker = worker
        self.reconnections = 0
        self._secret = secret
        self._role = role
        self._addresses: list[Address] = [(team.host, team.port)]
        self._ends: dict[int, endpoint.Endpoint] = {}
        self._poll = select.poll()
        self._server_of: dict[int, int] = {}

    def connect(self, addresses: Sequence[Address] | None = None) -> None:
        """Connect to server 0, ask it for the others (unless given), and connect to all.

        Raises:
            PeerLost: A server did not come in time.
            Refused: A server does not accept us.
        """
        deadline = time.monotonic() + self.team.limits.meeting_s
        if addresses is not None:
            self._addresses = list(addresses)
        self._call(0, deadline)
        if addresses is None:
            # Server 0 says who is missing; it must be heard before we give up.
            patience = deadline + self.team.limits.handshake_s
            question = frames.text(frames.DIRECTORY, {})
            found = calling.ask(self._ends[0], question, patience, where=self.name(0))
            self._addresses[1:] = [(host, port) for host, port in found[1:]]
        for server in range(1, self.team.servers):
            self._call(server, deadline)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Return where the servers listen."""
        return tuple(self._addresses)

    def end(self, server: int) -> endpoint.Endpoint:
        """Return the connection to one server."""
        return self._ends[server]

    def name(self, server: int) -> str:
        """Return what people call a server."""
        if server < len(self._addresses):
            host, port = self._addresses[server]
            return f"parameter server {server} at {host}:{port}"
        return f"parameter server {server}"

    def exchange(self, requests: Sequence[Request], *, place: Place | None, what: str) -> None:
        """Send all requests and wait for all answers, which are put into the requests.

        Args:
            requests: Their keys differ.
            place: Memory for payloads of VALUE frames; other payloads get memory of their own.
            what: For messages: what we wait for.

        Raises:
            PeerLost: A server is gone or late, or says that a worker is.
            Refused: A server does not accept what we sent; ``Fenced`` if we are an old generation.
        """
        open_requests = {request.key: request for request in requests}

        def target(header: frames.Header) -> memoryview:
            return self._memory(header, place, open_requests)

        for request in requests:
            self._send(request, open_requests)
        deadline = time.monotonic() + self.team.limits.answer_s + self.team.limits.reconnect_s
        while open_requests:
            left = deadline - time.monotonic()
            events = self._poll.poll(left * 1000) if left > 0 else []
            if not events:
                raise failures.PeerLost(self._lateness(open_requests, what))
            for descriptor, event in events:
                server = self._server_of.get(descriptor)
                if server is not None:
                    self._turn(server, event, open_requests, target)

    def close(self) -> None:
        """Close all connections."""
        for end in self._ends.values():
            end.close()
        self._ends.clear()
        self._server_of.clear()

    def _memory(
        self, header: frames.Header, place: Place | None, open_requests: Open
    ) -> memoryview:
        """Return where a payload goes: parameters that nobody waits for do not touch the model."""
        if header.kind == frames.VALUE and place is not None:
            # A chunk lies on one server, so that its number and step name the request.
            if any((n, header.chunk, header.step) in open_requests for n in self._ends):
                return place(header)
            return memoryview(bytearray(header.length))
        return calling.plain(header)

    def _turn(
        self,
        server: int,
        event: int,
        open_requests: Open,
        target: Place,
    ) -> None:
        end = self._ends[server]
        try:
            if event & select.POLLOUT:
                end.flush()
                if not end.is_sending:
                    self._watch(server)
            if not event & ~select.POLLOUT:
                return
            found = end.receive(target)
        except endpoint.Closed as error:
            if any(key[0] == server for key in open_requests):
                self._again(server, str(error), open_requests)
            else:
                # It owes us nothing: a server that we said goodbye to may close first.
                self._drop(server)
            return
        if found is None:
            return
        header, payload = found
        if header.kind in (frames.REFUSED, frames.FAILED):
            raise calling.complaint(header, payload, self.name(server))
        request = open_requests.pop((server, header.chunk, header.step), None)
        if request is not None:
            request.answer, request.content = header, payload

    def _send(self, request: Request, open_requests: Open) -> None:
        request.sent = True
        end = self._ends.get(request.server)
        if end is None:
            self._again(request.server, "it closed while idle", open_requests)
            return
        try:
            end.send(request.header.pack(), request.payload)
        except endpoint.Closed as error:
            self._again(request.server, str(error), open_requests)
            return
        if end.is_sending:
            self._watch(request.server)

    def _again(
        self,
        server: int,
        reason: str,
        open_requests: Open,
    ) -> None:
        """Make a lost connection anew and send what it owes an answer for."""
        limit = self.team.limits.reconnect_s
        if server in self._ends:
            self._hear_last_words(server)
            self._drop(server)
        try:
            self._call(server, time.monotonic() + limit)
        except failures.PeerLost as error:
            raise failures.PeerLost(
                f"{self.name(server)} closed the connection ({reason}) and did not come back "
                f"within {limit:g} s"
            ) from error
        self.reconnections += 1
        end = self._ends[server]
        try:
            for request in list(open_requests.values()):
                if request.server == server and request.sent:
                    end.send(request.header.pack(), request.payload)
        except endpoint.Closed as error:
            raise failures.PeerLost(
                f"{self.name(server)} closed the connection again: {error}"
            ) from error
        self._watch(server)

    def _hear_last_words(self, server: int) -> None:
        """Raise what a server said before it closed; what else it sent will be asked for again."""
        with contextlib.suppress(endpoint.Closed):
            while (found := self._ends[server].receive(calling.plain)) is not None:
                if found[0].kind in (frames.REFUSED, frames.FAILED):
                    raise calling.complaint(*found, self.name(server))

    def _call(self, server: int, deadline: float) -> None:
        greeting = handshake.Greeting(
            self._role, self.worker, self.team.generation, handshake.challenge()
        )
        address = self._addresses[server]
        end = calling.call(address, self._secret, greeting, server=server, deadline=deadline)
        self._ends[server] = end
        self._server_of[end.sock.fileno()] = server
        self._watch(server)

    def _drop(self, server: int) -> None:
        end = self._ends.pop(server)
        self._server_of.pop(end.sock.fileno(), None)
        self._poll.unregister(end.sock)
        end.close()

    def _watch(self, server: int) -> None:
        end = self._ends[server]
        self._poll.register(end.sock, select.POLLIN | (select.POLLOUT if end.is_sending else 0))

    def _lateness(self, open_requests: Open, what: str) -> str:
        late = sorted({key[0] for key in open_requests})
        words = ", ".join(self.name(server) for server in late)
        return f"{words} did not answer {what} within {self.team.limits.answer_s:g} s"
