"""How a connection is made: connect, prove, be welcomed. Blocking, with a deadline.

Used by workers for all servers, and by servers for server 0.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import time
from typing import Any

from quintile_trainer import failures
from quintile_trainer.ps import endpoint, frames, handshake, peers, problems

RETRY_S = 0.05


def call(
    address: tuple[str, int],
    secret: bytes,
    greeting: handshake.Greeting,
    *,
    server: int,
    deadline: float,
) -> endpoint.Endpoint:
    """Return a connection to a server that welcomed us.

    Tries again until ``deadline`` (monotonic) while the server is not there.

    Raises:
        PeerLost: It was not there in time.
        Fenced: It belongs to another generation.
        Refused: It does not know the token, or does not accept us.
    """
    where = f"parameter server {server} at {address[0]}:{address[1]}"
    while True:
        left = deadline - time.monotonic()
        end: endpoint.Endpoint | None = None
        try:
            sock = socket.create_connection(address, timeout=max(left, RETRY_S))
            end = endpoint.Endpoint(sock)
            _greet(end, secret, greeting, server=server, deadline=deadline)
        except (OSError, endpoint.Closed) as error:
            if end is not None:
                end.close()
            if time.monotonic() + RETRY_S >= deadline:
                raise failures.PeerLost(f"{where} cannot be reached: {error}") from error
            # Many workers look for one server: they must not come all at once, again and again.
            time.sleep(RETRY_S * random.uniform(0.5, 1.5))
        except BaseException:
            if end is not None:
                end.close()
            raise
        else:
            return end


def answer(
    end: endpoint.Endpoint, deadline: float, *, where: str
) -> tuple[frames.Header, memoryview | None]:
    """Return the next frame, waiting for it.

    Raises:
        Closed: The connection is gone.
        PeerLost: It did not come in time, or the server says that the generation cannot go on.
        Refused: The server does not accept us; ``Fenced`` if we are of another generation.
    """
    poll = select.poll()
    while True:
        poll.register(end.sock, select.POLLIN | (select.POLLOUT if end.is_sending else 0))
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise failures.PeerLost(f"{where} did not answer in time")
        end.flush()
        found = end.receive(plain)
        if found is not None:
            header, payload = found
            if header.kind in (frames.REFUSED, frames.FAILED):
                raise complaint(header, payload, where)
            return header, payload


def ask(end: endpoint.Endpoint, frame: tuple[bytes, bytes], deadline: float, *, where: str) -> Any:
    """Send a frame of JSON and return the JSON of the answer. Raises as ``answer``."""
    end.send(*frame)
    _header, payload = answer(end, deadline, where=where)
    return json.loads(bytes(payload)) if payload is not None else None


def complaint(header: frames.Header, payload: memoryview | None, where: str) -> Exception:
    """Return the exception for a REFUSED or FAILED frame."""
    with contextlib.suppress(peers.Malformed):
        document = peers.read_json(payload)
        if header.kind == frames.REFUSED:
            return peers.refusal(document, where)
        return failures.PeerLost(str(document["reason"]))
    return problems.Refused(f"{where} ended the connection without a readable reason")


def _greet(
    end: endpoint.Endpoint,
    secret: bytes,
    greeting: handshake.Greeting,
    *,
    server: int,
    deadline: float,
) -> None:
    where = f"parameter server {server}"
    offered = ask(end, frames.text(frames.HELLO, greeting.document()), deadline, where=where)
    expected = handshake.proof(secret, "server", greeting, offered["nonce"])
    if not handshake.matches(offered["proof"], expected):
        raise problems.Refused(f"{where} does not know the trial's token; it is another program")
    mine = handshake.proof(secret, "caller", greeting, offered["nonce"])
    welcome = ask(end, frames.text(frames.PROOF, {"proof": mine}), deadline, where=where)
    if welcome["server"] != server:
        raise problems.Refused(f"{where} says that it is parameter server {welcome['server']}")


def plain(header: frames.Header) -> memoryview:
    """Return memory for the payload of a frame that is no parameter's.

    Raises:
        Closed: It is larger than any such frame.
    """
    if header.length > frames.JSON_LIMIT:
        raise endpoint.Closed(f"the other side announced {header.length} bytes")
    return memoryview(bytearray(header.length))
