"""Processes that decode untrusted images: started on demand, limited, replaced when they die.

Used by imports (verify) and by thumbnails. A decoder that dies, hangs or answers nonsense costs
one image, never the server.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import queue
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from quintile.core import errors
from quintile_api.data import decoder_process

ANSWER_TIMEOUT_S: Final = 30.0
ANSWER_LIMIT_BYTES: Final = 16 * 1024 * 1024
IMAGES_PER_PROCESS: Final = 10_000
_SCRIPT: Final = pathlib.Path(decoder_process.__file__)


@dataclass(frozen=True)
class Picture:
    """A verified image: format of the allow-list, upright size in pixels."""

    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Refusal:
    """Why bytes are not taken: a CamelCase reason word and a sentence."""

    reason: str
    message: str


class Decoder:
    """One decoding process; used by one thread at a time."""

    def __init__(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._served = 0

    def verify(self, data: bytes) -> Picture | Refusal:
        """Decode an image to its end and return what it is, or why it is refused."""
        answer, _ = self._ask(decoder_process.VERIFY, data)
        if isinstance(answer, Refusal):
            return answer
        kind = answer.get("format")
        size = answer.get("width"), answer.get("height")
        if kind not in decoder_process.FORMATS or not all(isinstance(edge, int) for edge in size):
            return self._broken()
        return Picture(format=kind, width=int(answer["width"]), height=int(answer["height"]))

    def thumbnail(self, data: bytes, *, edge: int) -> bytes | Refusal:
        """Return a WebP whose edges are at most ``edge`` pixels, or why there is none."""
        answer, body = self._ask(decoder_process.THUMBNAIL, data, edge=edge)
        return answer if isinstance(answer, Refusal) else body

    @property
    def pid(self) -> int | None:
        """The process that decodes now, None when there is none."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process. Idempotent; the next call starts another."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None
        self._served = 0

    def _ask(
        self, operation: bytes, data: bytes, *, edge: int = 0
    ) -> tuple[dict[str, Any] | Refusal, bytes]:
        if self._line is None or self._served >= IMAGES_PER_PROCESS:
            self.close()
            self._start()
        line = self._line
        assert line is not None
        self._served += 1
        try:
            line.sendall(decoder_process.REQUEST.pack(operation, edge, len(data)))
            line.sendall(data)
            sizes = self._receive(line, decoder_process.ANSWER.size)
            text_size, body_size = decoder_process.ANSWER.unpack(sizes)
            if text_size + body_size > ANSWER_LIMIT_BYTES:
                return self._broken(), b""
            answer = json.loads(self._receive(line, text_size))
            body = self._receive(line, body_size)
        except TimeoutError:
            self.close()
            return Refusal(
                "TooSlow",
                f"decoding took more than {self._timeout_s:.0f} s; save the image again, smaller",
            ), b""
        except (OSError, ValueError):
            return self._broken(), b""
        if not isinstance(answer, dict):
            return self._broken(), b""
        if "reason" in answer:
            return Refusal(str(answer["reason"]), str(answer.get("message", ""))[:512]), b""
        return answer, body

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(self._timeout_s)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(_SCRIPT), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                ours.close()
                raise errors.Unavailable(
                    f"No image decoder can be started: {error.strerror}.", hint="Try again."
                ) from error
        self._line = ours

    @staticmethod
    def _receive(line: socket.socket, length: int) -> bytes:
        found = decoder_process.receive(line, length)
        if len(found) != length:
            raise ConnectionError("the decoder ended")
        return found

    def _broken(self) -> Refusal:
        self.close()
        return Refusal("Broken", "the image ended its decoder; save it again with another program")


class DecoderPool:
    """Decoders for several threads; at most ``size`` processes."""

    def __init__(self, size: int) -> None:
        self._free: queue.LifoQueue[Decoder] = queue.LifoQueue()
        self._all = [Decoder() for _ in range(size)]
        for decoder in self._all:
            self._free.put(decoder)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Decoder]:
        """Lend a decoder; waits while all are in use.

        Raises:
            Unavailable: All were in use for too long.
        """
        try:
            decoder = self._free.get(timeout=ANSWER_TIMEOUT_S)
        except queue.Empty as error:
            raise errors.Unavailable("All image decoders are busy.", hint="Try again.") from error
        try:
            yield decoder
        finally:
            self._free.put(decoder)

    def close(self) -> None:
        """End all processes."""
        for decoder in self._all:
            decoder.close()
