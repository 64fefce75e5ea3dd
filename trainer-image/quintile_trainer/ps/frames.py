"""What goes over a connection: a fixed header with the length of the bytes that follow it. Pure.

No object is ever unpickled: payloads are tensor memory, or JSON where few and small.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final, NamedTuple

_LAYOUT = struct.Struct("<BBHIIIQQdQ")
HEADER_BYTES: Final = _LAYOUT.size
WHOLE: Final = 2**32 - 1
"""In place of a chunk's number: the frame is about no chunk."""
JSON_LIMIT: Final = 64 << 20
GREETING_LIMIT: Final = 4096

WANT: Final = 1
"""Flag of PUSH: answer with the parameters of the chunk that come after this push."""
DONE: Final = 2
"""Flag of LEASE, in an answer: nothing is left to lease; in a request: give out nothing more."""
MAXIMUM: Final = 4
"""Flag of REDUCE: the largest value instead of the sum."""

HELLO: Final = 1
CHALLENGE: Final = 2
PROOF: Final = 3
WELCOME: Final = 4
REFUSED: Final = 5
FAILED: Final = 6
REGISTER: Final = 10
DIRECTORY: Final = 11
SETUP: Final = 12
LOAD: Final = 13
START: Final = 14
ATTACH: Final = 15
PUSH: Final = 20
PULL: Final = 21
VALUE: Final = 22
ACK: Final = 23
REDUCE: Final = 30
LEASE: Final = 31
RETIRE: Final = 32
STATUS: Final = 33
CUT_OPEN: Final = 40
CUT_AT: Final = 41
CUT_WAIT: Final = 42
FETCH: Final = 43
BYE: Final = 50


class Header(NamedTuple):
    """The first bytes of a frame.

    ``step`` counts a worker's pushes from 0, or numbers a request; ``version`` counts updates of a
    chunk; ``rate`` is the learning rate of a push and ``lease`` what it was computed from.
    """

    kind: int
    flags: int = 0
    worker: int = 0
    generation: int = 0
    chunk: int = WHOLE
    length: int = 0
    step: int = 0
    version: int = 0
    rate: float = 0.0
    lease: int = 0

    def pack(self) -> bytes:
        """Return the header's bytes."""
        return _LAYOUT.pack(*self)


def unpack(data: bytes | bytearray | memoryview) -> Header:
    """Return the header in ``HEADER_BYTES`` bytes."""
    return Header._make(_LAYOUT.unpack(data))


def text(kind: int, document: Any, **fields: int) -> tuple[bytes, bytes]:
    """Return header and payload of a frame that carries JSON."""
    payload = json.dumps(document, separators=(",", ":")).encode()
    return Header(kind, length=len(payload), **fields).pack(), payload
