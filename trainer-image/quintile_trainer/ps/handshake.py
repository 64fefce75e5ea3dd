"""Both sides of a connection prove that they know the trial's token, which is never sent. Pure.

Each side answers the other's random challenge with an HMAC over both challenges and over what the
connection is for: an answer is good for this connection alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Literal

PROTOCOL = 1
Role = Literal["worker", "reader", "server"]
ROLES = ("worker", "reader", "server")


@dataclass(frozen=True)
class Greeting:
    """What a caller says first. ``reader`` is a worker's second connection, for checkpoints."""

    role: str
    number: int
    generation: int
    nonce: str
    protocol: int = PROTOCOL

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        return {
            "role": self.role,
            "number": self.number,
            "generation": self.generation,
            "nonce": self.nonce,
            "protocol": self.protocol,
        }


def parse(document: Any) -> Greeting:
    """Return the greeting that JSON describes.

    Raises:
        ValueError: It is none.
    """
    try:
        greeting = Greeting(**document)
    except TypeError as error:
        raise ValueError("the greeting has other fields than expected") from error
    numbers = (greeting.number, greeting.generation, greeting.protocol)
    if greeting.role not in ROLES or not all(isinstance(value, int) for value in numbers):
        raise ValueError("the greeting names no known role, number and generation")
    if not isinstance(greeting.nonce, str) or len(greeting.nonce) < 32:
        raise ValueError("the greeting has no challenge")
    return greeting


def challenge() -> str:
    """Return 128 random bits."""
    return secrets.token_hex(16)


def proof(secret: bytes, side: Literal["caller", "server"], greeting: Greeting, nonce: str) -> str:
    """Return the proof that one side owes the other.

    Args:
        secret: The trial's token.
        side: Who proves; a proof of one side is none of the other.
        greeting: With the caller's challenge.
        nonce: The server's challenge.
    """
    words = (
        "quintile-ps",
        side,
        str(greeting.protocol),
        greeting.role,
        str(greeting.number),
        str(greeting.generation),
        greeting.nonce,
        nonce,
    )
    return hmac.new(secret, "\0".join(words).encode(), hashlib.sha256).hexdigest()


def matches(given: Any, expected: str) -> bool:
    """Return whether a proof is right, in constant time."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())
