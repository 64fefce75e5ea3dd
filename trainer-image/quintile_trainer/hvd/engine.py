"""The thread that meets the other ranks: collects requests, agrees, carries out, hands back.

As in Horovod, the order in which ranks ask does not matter. The thread talks to the others only
while something is asked for, so a rank that computes is not disturbed.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from quintile_trainer import failures
from quintile_trainer.hvd import requests, transport
from quintile_trainer.hvd.exceptions import HorovodInternalError
from quintile_trainer.hvd.requests import Agreement, Call, Kind, Request

_FUSED_ELEMENTS: Final = 16 << 20
_PAUSES_S: Final = (0.001, 0.05)
"""Between looks at ranks that ask for different things: the first, and the longest."""
_STALL_S: Final = 60.0
_LEAVE_S: Final = 600.0

Finish = Callable[[list[torch.Tensor]], object]


@dataclass
class _Entry:
    request: Request
    tensors: list[torch.Tensor]
    finish: Finish
    done: threading.Event = field(default_factory=threading.Event)
    result: object = None
    error: str = ""


class Engine:
    """One rank's requests. Any thread may ask."""

    def __init__(self, carrier: transport.Carrier) -> None:
        self._carrier = carrier
        self._condition = threading.Condition()
        self._pending: dict[str, _Entry] = {}
        self._handles: dict[int, _Entry] = {}
        self._numbers = itertools.count()
        self._names = {kind: itertools.count() for kind in Kind}
        self._joined: frozenset[int] = frozenset()
        self._ended = ""
        self._moved = time.monotonic()
        self._pause_s = _PAUSES_S[0]
        self._thread = threading.Thread(target=self._run, name="hvd-engine", daemon=True)
        self._thread.start()

    def name(self, kind: Kind, given: str | None) -> str:
        """Return the name under which a request meets those of other ranks."""
        return f"{kind}.{given or f'noname.{next(self._names[kind])}'}"

    def ask(self, request: Request, tensors: Sequence[torch.Tensor], finish: Finish) -> int:
        """Begin a collective; return its handle.

        Args:
            request: What to do.
            tensors: Reduced and broadcast in place.
            finish: Makes the result for the caller of ``wait`` from the tensors that came out.

        Raises:
            HorovodInternalError: Horovod is shut down or a rank is lost, or the name is in use.
        """
        for tensor in tensors:
            if tensor.is_cuda:
                torch.cuda.current_stream(tensor.device).synchronize()
        with self._condition:
            if self._ended:
                raise HorovodInternalError(self._ended)
            if request.name in self._pending:
                raise HorovodInternalError(
                    f"{request.name} is asked for again before it is done; give another name"
                )
            entry = _Entry(request, list(tensors), finish)
            handle = next(self._numbers)
            self._pending[request.name] = entry
            self._handles[handle] = entry
            self._condition.notify_all()
        return handle

    def poll(self, handle: int) -> bool:
        """Return whether a collective is done.

        Raises:
            ValueError: The handle is unknown, or was waited for already.
        """
        entry = self._handles.get(handle)
        if entry is None:
            raise ValueError(f"handle {handle} was not created or has been cleared")
        return entry.done.is_set()

    def wait(self, handle: int) -> object:
        """Return the result of a collective; None for a handle that was waited for already.

        Raises:
            HorovodInternalError: It failed.
        """
        entry = self._handles.get(handle)
        if entry is None:
            return None
        entry.done.wait()
        self._handles.pop(handle, None)
        if entry.error:
            raise HorovodInternalError(entry.error)
        return entry.result

    def shut_down(self) -> None:
        """Leave, once all ranks do; what they still ask of this one fails."""
        with self._condition:
            if not self._ended and Kind.SHUTDOWN not in self._pending:
                request = Request(Kind.SHUTDOWN, Kind.SHUTDOWN)
                self._pending[Kind.SHUTDOWN] = _Entry(request, [], lambda _tensors: None)
                self._condition.notify_all()
        self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        try:
            while not self._ended:
                self._cycle()
        except Exception as error:  # the boundary of the thread: whoever waits gets it
            self._end(f"a collective failed, another rank has left: {failures.first_line(error)}")

    def _cycle(self) -> None:
        with self._condition:
            while not self._pending:
                self._moved = time.monotonic()
                self._condition.wait()
            mine = [entry.request for entry in self._pending.values()]
        lists = [requests.decode(data) for data in self._carrier.exchange(requests.encode(mine))]
        agreement = requests.agree(lists)
        self._obey(agreement)
        if agreement.moves:
            self._moved = time.monotonic()
            self._pause_s = _PAUSES_S[0]
            return
        if time.monotonic() - self._moved > _STALL_S:
            self._moved = time.monotonic()
            sys.stderr.write(f"[quintile] Horovod shim: {requests.waiting(lists)}\n")
        time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 1.5, _PAUSES_S[1])

    def _obey(self, agreement: Agreement) -> None:
        for name, reason in agreement.refused.items():
            self._give(name, None, reason)
        for calls in requests.fuse(agreement.calls, _FUSED_ELEMENTS):
            tensors = [self._tensors(call) for call in calls]
            results = self._carrier.carry_out(calls, tensors)
            for call, result in zip(calls, results, strict=True):
                for tensor in result:
                    if tensor.is_cuda:
                        torch.cuda.current_stream(tensor.device).synchronize()
                self._give(call.request.name, result, "")
        if agreement.all_joined:
            last = max(agreement.joined - self._joined or agreement.joined)
            self._give(Kind.JOIN, [torch.tensor(last, dtype=torch.int32)], "")
        self._joined = frozenset() if agreement.all_joined else agreement.joined
        if agreement.all_shut:
            self._end("Horovod has been shut down; call hvd.init() again")

    def _tensors(self, call: Call) -> list[torch.Tensor]:
        """Return this rank's tensors, or zeros when it has joined."""
        entry = self._pending.get(call.request.name)
        if entry is not None:
            return entry.tensors
        request = call.request
        dtype = getattr(torch, request.dtype) if request.dtype else torch.float32
        return [torch.zeros(shape, dtype=dtype, device=request.device) for shape in request.shapes]

    def _give(self, name: str, tensors: list[torch.Tensor] | None, error: str) -> None:
        with self._condition:
            entry = self._pending.pop(name, None)
        if entry is None:
            return
        entry.error = error
        if tensors is not None:
            entry.result = entry.finish(tensors)
        entry.done.set()

    def _end(self, reason: str) -> None:
        with self._condition:
            self._ended = reason
            left, self._pending = list(self._pending.values()), {}
        for entry in left:
            entry.error = reason
            entry.done.set()
