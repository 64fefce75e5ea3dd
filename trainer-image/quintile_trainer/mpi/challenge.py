"""How a caller proves that it belongs to the trial: a keyed digest over a nonce. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence

PURPOSE = b"quintile mpi daemons"


def key(token: str) -> str:
    """Return the key of an attempt; it is made from the trial token, and does not give it away."""
    return hmac.new(token.encode(), PURPOSE, hashlib.sha256).hexdigest()


def proof(secret: str, *, nonce: str, command: Sequence[str], generation: int) -> str:
    """Return the answer to a nonce: good for one connection, one command, one generation."""
    digest = hashlib.sha256(json.dumps(list(command)).encode()).hexdigest()
    text = f"{nonce} {digest} {generation}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def holds(given: str, secret: str, *, nonce: str, command: Sequence[str], generation: int) -> bool:
    """Return whether a proof is the right one; takes equally long for all wrong ones."""
    expected = proof(secret, nonce=nonce, command=command, generation=generation)
    return hmac.compare_digest(given.encode(), expected.encode())
