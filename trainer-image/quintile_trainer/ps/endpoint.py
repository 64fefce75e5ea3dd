"""One non-blocking connection: frames in, frames out. Used by server and client alike.

Nothing is copied on the way: payloads are received into the memory they are meant for, and sent
from where they lie.
"""

from __future__ import annotations

import collections
import contextlib
import socket
from collections.abc import Callable

from quintile_trainer.ps import frames

KEEPALIVE_S = 5
KEEPALIVE_PROBES = 3
SILENCE_MS = 1000 * KEEPALIVE_S * (1 + KEEPALIVE_PROBES)
"""A network that is cut shows after so long: bytes or probes were not acknowledged."""
Bytes = bytes | bytearray | memoryview
Target = Callable[[frames.Header], memoryview]
"""Names the memory for a frame's payload; called once its header is here."""


class Closed(Exception):
    """The other side closed the connection, or it broke."""


class Endpoint:
    """A socket with a frame being received and frames waiting to be sent."""

    def __init__(self, sock: socket.socket) -> None:
        prepare(sock)
        self.sock = sock
        self._head = bytearray(frames.HEADER_BYTES)
        self._head_view = memoryview(self._head)
        self._got = 0
        self._header: frames.Header | None = None
        self._payload: memoryview | None = None
        self._out: collections.deque[Bytes] = collections.deque()

    @property
    def is_sending(self) -> bool:
        """Return whether bytes wait for room in the socket."""
        return bool(self._out)

    def send(self, head: bytes, payload: Bytes | None = None) -> None:
        """Send a frame, or as much of it as there is room for; the rest waits for ``flush``.

        Raises:
            Closed: The connection is gone.
        """
        parts: list[Bytes] = [head] if payload is None else [head, payload]
        if self._out:
            self._out.extend(parts)
            return
        try:
            sent = self.sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Closed(str(error)) from error
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
            else:
                self._out.append(memoryview(part)[sent:])
                sent = 0

    def send_live(self, head: bytes, payload: Bytes) -> None:
        """Send as ``send`` does, from memory that changes soon: what must wait is copied."""
        self.send(head, payload)
        if self._out:
            self._out[-1] = bytes(self._out[-1])

    def flush(self) -> None:
        """Send what waits, as far as there is room. Raises as ``send``."""
        out = self._out
        try:
            while out:
                part = out[0]
                sent = self.sock.send(part)
                if sent < len(part):
                    out[0] = memoryview(part)[sent:]
                else:
                    out.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(self, target: Target) -> tuple[frames.Header, memoryview | None] | None:
        """Return the next whole frame, or None when more bytes must come first.

        Raises:
            Closed: The connection is gone.
        """
        try:
            if self._header is None and not self._receive_head(target):
                return None
            if self._payload is not None:
                while self._got < len(self._payload):
                    self._got += self._into(self._payload[self._got :])
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed(str(error)) from error
        header, payload = self._header, self._payload
        assert header is not None
        self._header, self._payload, self._got = None, None, 0
        return header, payload

    def close(self) -> None:
        """Close the socket; what waits to be sent is lost."""
        with contextlib.suppress(OSError):
            self.sock.close()

    def _receive_head(self, target: Target) -> bool:
        self._got += self._into(self._head_view[self._got :])
        if self._got < frames.HEADER_BYTES:
            return False
        self._header = frames.unpack(self._head)
        self._got = 0
        if self._header.length:
            self._payload = target(self._header)
        return True

    def _into(self, memory: memoryview) -> int:
        count = self.sock.recv_into(memory)
        if count == 0:
            raise Closed("closed by the other side")
        return count


def prepare(sock: socket.socket) -> None:
    """Set what every connection needs: no delay, and an end for those whose network is cut."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Only Linux has all of these; elsewhere the defaults of the system hold.
    options = {
        "TCP_KEEPIDLE": KEEPALIVE_S,
        "TCP_KEEPINTVL": KEEPALIVE_S,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": SILENCE_MS,
    }
    for name, value in options.items():
        number = getattr(socket, name, None)
        if number is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
