"""The other ends of a server's connections, and who they proved to be."""

from __future__ import annotations

import json
import selectors
import time
from typing import Any

from quintile_trainer.ps import endpoint, frames, handshake, memory, problems, settings


class Malformed(Exception):
    """A peer sent what no client of this release sends; its connection is closed."""


class Peer:
    """One connection of a server. Sending never raises: a broken peer is dropped by the loop."""

    def __init__(
        self, end: endpoint.Endpoint, selector: selectors.BaseSelector, address: str
    ) -> None:
        self.end = end
        self.address = address
        self.role = ""
        self.number = -1
        self.since = time.monotonic()
        self.buffer: memory.Buffer | None = None
        self.broken = ""
        self.left = False
        self.greeting: handshake.Greeting | None = None
        self.nonce = ""
        self._selector = selector
        self._armed = False

    @property
    def name(self) -> str:
        """Return what people call it."""
        words = {"worker": "worker", "reader": "worker", "server": "parameter server"}
        return f"{words[self.role]} {self.number}" if self.role else f"a caller at {self.address}"

    def send(self, head: bytes, payload: endpoint.Bytes | None = None) -> None:
        """Send a frame from memory that stays as it is."""
        self._guarded(lambda: self.end.send(head, payload))

    def send_live(self, head: bytes, payload: endpoint.Bytes) -> None:
        """Send a frame from memory that may change as soon as this returns."""
        self._guarded(lambda: self.end.send_live(head, payload))

    def send_text(self, kind: int, document: Any, **fields: int) -> None:
        """Send a frame of JSON."""
        self.send(*frames.text(kind, document, **fields))

    def acknowledge(self, header: frames.Header) -> None:
        """Answer a request that needs no more than that."""
        answer = frames.Header(frames.ACK, chunk=header.chunk, step=header.step)
        self.send(answer.pack())

    def refuse(self, reason: str, *, fenced: bool = False) -> None:
        """Say why, and close."""
        self.send_text(frames.REFUSED, {"reason": reason, "fenced": fenced})
        self.broken = self.broken or reason

    def flush(self) -> None:
        """Send what waits."""
        self._guarded(self.end.flush)

    def _guarded(self, call: Any) -> None:
        if self.broken:
            return
        try:
            call()
        except endpoint.Closed as error:
            self.broken = str(error)
            return
        if self.end.is_sending != self._armed:
            self._armed = self.end.is_sending
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._armed else 0)
            self._selector.modify(self.end.sock, events, self)


class Door:
    """Lets in who knows the token and belongs to this generation."""

    def __init__(self, team: settings.Team, *, server: int, secret: bytes) -> None:
        self._team = team
        self._server = server
        self._secret = secret

    def on_frame(self, peer: Peer, header: frames.Header, payload: memoryview | None) -> bool:
        """Take one step of the handshake; return whether the peer is in now."""
        document = read_json(payload)
        if header.kind == frames.HELLO and peer.greeting is None:
            self._challenge(peer, document)
            return False
        if header.kind == frames.PROOF and peer.greeting is not None:
            return self._welcome(peer, document)
        raise Malformed("it sent a frame before it proved who it is")

    def _challenge(self, peer: Peer, document: Any) -> None:
        try:
            peer.greeting = handshake.parse(document)
        except ValueError as error:
            raise Malformed(str(error)) from error
        peer.nonce = handshake.challenge()
        mine = handshake.proof(self._secret, "server", peer.greeting, peer.nonce)
        peer.send_text(frames.CHALLENGE, {"nonce": peer.nonce, "proof": mine})

    def _welcome(self, peer: Peer, document: Any) -> bool:
        greeting = peer.greeting
        assert greeting is not None
        expected = handshake.proof(self._secret, "caller", greeting, peer.nonce)
        given = document.get("proof") if isinstance(document, dict) else None
        if not handshake.matches(given, expected):
            peer.refuse("its proof is wrong: it does not know the trial's token")
            return False
        if greeting.generation != self._team.generation:
            reason = (
                f"it belongs to generation {greeting.generation}, this is parameter server "
                f"{self._server} of generation {self._team.generation}"
            )
            peer.refuse(reason, fenced=True)
            return False
        among = self._team.servers if greeting.role == "server" else self._team.workers
        if greeting.protocol != handshake.PROTOCOL or not 0 <= greeting.number < among:
            peer.refuse(f"it says it is {greeting.role} {greeting.number} of {among}")
            return False
        peer.role, peer.number = greeting.role, greeting.number
        peer.send_text(frames.WELCOME, {"server": self._server})
        return True


def read_json(payload: memoryview | None) -> Any:
    """Return what a JSON payload holds.

    Raises:
        Malformed: It holds none.
    """
    try:
        return json.loads(bytes(payload or b""))
    except ValueError as error:
        raise Malformed("its payload is no JSON") from error


def refusal(document: Any, where: str) -> Exception:
    """Return the exception for a REFUSED frame from ``where``."""
    reason = document.get("reason", "") if isinstance(document, dict) else ""
    if isinstance(document, dict) and document.get("fenced"):
        return problems.Fenced(f"{where} does not take this process any more: {reason}")
    return problems.Refused(f"{where} does not take this process: {reason}")
