"""The ranks of one host, summing tensors through shared memory.

A tensor goes through in pieces, each numbered; all ranks do the same ones in the same order. For
one piece a rank (1) *posts* its values into its slot, (2) *reduces* its share over all ranks' slots
and puts the result into its own slot, (3) *takes* the other shares. It waits for others before (2)
and (3), and before (1) only when a bank is still being read. Small pieces are summed whole by every
rank in step (2), and (3) is empty. Who comes first changes nothing: sums are in rank order.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import torch

from quintile_trainer.shm import layout as layout_module
from quintile_trainer.shm import mapping, problems, sums, waiting
from quintile_trainer.shm import settings as settings_module
from quintile_trainer.shm.sums import Operation

_AHEAD = 2
"""Pieces that one large tensor is ahead of its sums: enough to overlap, few enough for caches.

Ranks that share cores go as far ahead as they can: every wait costs them a change of process.
"""
_CUTS = 1024
"""Sizes of tensors whose cuts are kept."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A piece of any tensor of a size: its span, each rank's share, whether it is summed whole."""

    span: layout_module.Span
    shares: tuple[layout_module.Span, ...]
    direct: bool


class _Piece(NamedTuple):
    """A piece on its way; ``kind`` is what the ranks compare."""

    number: int
    values: torch.Tensor
    operation: Operation
    kind: int
    cut: _Cut


class Group:
    """One rank's end. All methods are called by all ranks in one order, by one thread at a time."""

    def __init__(self, memory: mapping.Memory, rank: int, given: settings_module.Settings) -> None:
        self.rank = rank
        self.world_size = memory.layout.world_size
        self._memory = memory
        self._layout = memory.layout
        self._waiter = waiting.Waiter(memory, rank, given)
        self._adder = sums.Adder()
        ranks = range(self.world_size)
        self._others = tuple(peer for peer in ranks if peer != rank)
        self._posted = tuple(self._layout.counter("posted", peer) for peer in ranks)
        self._reduced = tuple(self._layout.counter("reduced", peer) for peer in ranks)
        self._taken = tuple(self._layout.counter("taken", peer) for peer in ranks)
        self._described = tuple(
            tuple(self._layout.description(peer, bank) for bank in range(self._layout.banks))
            for peer in ranks
        )
        self._cuts: dict[tuple[int, int], tuple[_Cut, ...]] = {}
        self._ahead = _AHEAD if given.spin_us else self._layout.banks
        self._number = 0
        self._to_reduce: collections.deque[_Piece] = collections.deque()
        self._to_take: collections.deque[_Piece] = collections.deque()
        self._broken: problems.LateRank | problems.Mismatch | None = None
        self._gave_up = False
        self._closed = False
        self._waiter.set_state(waiting.State.RUNNING)

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not self._gave_up:
            self._give_up(self.rank)
        self.close()

    def all_reduce(self, values: torch.Tensor, operation: Operation = Operation.SUM) -> None:
        """Replace a tensor by the sum, mean or maximum over the ranks.

        Raises:
            LateRank: Another rank left or did not come in time; the group is of no use any more.
            Mismatch: The ranks gave tensors of different size or type.
        """
        if values.is_contiguous():
            self._queue(values, operation, ahead=self._ahead)
            self.finish()
            return
        whole = values.detach().contiguous()
        self._queue(whole, operation, ahead=self._ahead)
        self.finish()
        values.detach().copy_(whole)

    def submit(self, values: torch.Tensor, operation: Operation = Operation.SUM) -> None:
        """Begin what ``all_reduce`` does; the contiguous tensor has its result after ``finish``.

        Waits only when all banks are full. The tensor must not be touched in between. Raises as
        ``all_reduce``.
        """
        self._queue(values, operation, ahead=self._layout.banks)

    def finish(self) -> None:
        """Wait until everything submitted has its result. Raises as ``all_reduce``."""
        while self._to_reduce:
            self._reduce()
            self._take_ready()
        while self._to_take:
            self._take()

    def close(self) -> None:
        """Leave; ranks that still wait for this one are told."""
        if self._closed:
            return
        self._closed = True
        if not self._gave_up:
            self._waiter.set_state(waiting.State.LEFT)
        self._memory.close()

    def _queue(self, values: torch.Tensor, operation: Operation, *, ahead: int) -> None:
        if self._broken is not None:
            raise self._broken
        flat = _flat(values)
        if self.world_size == 1:
            return
        cuts = self._cut(flat.numel(), flat.dtype.itemsize)
        kind = _kind(flat.dtype, operation)
        for cut in cuts:
            self._number += 1
            values = flat if len(cuts) == 1 else flat[cut.span[0] : cut.span[1]]
            self._post(_Piece(self._number, values, operation, kind, cut))
            self._advance(ahead)

    def _cut(self, elements: int, itemsize: int) -> tuple[_Cut, ...]:
        """Return how a tensor is cut; a model asks for the same ones in every step."""
        known = self._cuts.get((elements, itemsize))
        if known is None:
            if len(self._cuts) >= _CUTS:
                self._cuts.clear()
            known = self._cuts[(elements, itemsize)] = tuple(
                _Cut(
                    span=(start, stop),
                    shares=layout_module.shares(stop - start, itemsize, self.world_size),
                    direct=self._layout.is_direct((stop - start) * itemsize),
                )
                for start, stop in layout_module.pieces(
                    elements, itemsize, self._layout.piece_bytes
                )
            )
        return known

    def _post(self, piece: _Piece) -> None:
        number, values, cut = piece.number, piece.values, piece.cut
        dtype = values.dtype
        while self._number_waiting() >= self._layout.banks:
            self._oldest()
        free = number - self._layout.banks
        if free > 0:
            self._await(self._taken, free, piece)
        bank = self._bank(number)
        if cut.direct:
            self._memory.slot(dtype, self.rank, bank, (0, values.numel())).copy_(values)
        else:
            first, last = cut.shares[self.rank]
            for span in ((0, first), (last, values.numel())):
                if span[0] < span[1]:
                    self._memory.slot(dtype, self.rank, bank, span).copy_(values[span[0] : span[1]])
        words, at = self._memory.words, self._described[self.rank][bank]
        words[at] = values.numel()
        words[at + 1] = piece.kind
        self._to_reduce.append(piece)
        self._waiter.publish(self._posted[self.rank], number)

    def _advance(self, ahead: int) -> None:
        """Do what needs no wait, and wait for what is too far behind."""
        while self._to_reduce and (
            len(self._to_reduce) > ahead or self._is_there(self._posted, self._to_reduce[0].number)
        ):
            self._reduce()
        self._take_ready()
        while len(self._to_take) > ahead:
            self._take()

    def _take_ready(self) -> None:
        while self._to_take and (
            self._to_take[0].cut.direct or self._is_there(self._reduced, self._to_take[0].number)
        ):
            self._take()

    def _oldest(self) -> None:
        if not self._to_take:
            self._reduce()
        self._take()

    def _reduce(self) -> None:
        piece = self._to_reduce[0]
        number, values, cut = piece.number, piece.values, piece.cut
        dtype = values.dtype
        self._await(self._posted, number, piece)
        bank = self._bank(number)
        self._compare(piece, bank)
        span = (0, values.numel()) if cut.direct else cut.shares[self.rank]
        if span[0] < span[1]:
            mine = values if cut.direct else values[span[0] : span[1]]
            inputs = [
                mine if peer == self.rank else self._memory.slot(dtype, peer, bank, span)
                for peer in range(self.world_size)
            ]
            self._adder.combine(inputs, mine, self.rank, piece.operation)
            if not cut.direct:
                self._memory.slot(dtype, self.rank, bank, span).copy_(mine)
        self._to_take.append(self._to_reduce.popleft())
        if not cut.direct:
            self._waiter.publish(self._reduced[self.rank], number)

    def _take(self) -> None:
        piece = self._to_take[0]
        number, values, cut = piece.number, piece.values, piece.cut
        dtype = values.dtype
        if not cut.direct:
            self._await(self._reduced, number, piece)
            bank = self._bank(number)
            for peer in self._others:
                span = cut.shares[peer]
                if span[0] < span[1]:
                    shared = self._memory.slot(dtype, peer, bank, span)
                    values[span[0] : span[1]].copy_(shared)
        self._to_take.popleft()
        self._waiter.publish(self._taken[self.rank], number)

    def _compare(self, piece: _Piece, bank: int) -> None:
        words = self._memory.words
        mine = (piece.values.numel(), piece.kind)
        for peer in self._others:
            at = self._described[peer][bank]
            theirs = (words[at], words[at + 1])
            if theirs != mine:
                self._broken = problems.Mismatch(
                    f"sum {piece.number}: rank {peer} gave {_text(*theirs)}, rank {self.rank} gave "
                    f"{_text(*mine)}; all ranks must sum the same tensors in the same order"
                )
                self._give_up(peer)
                raise self._broken

    def _await(self, counters: tuple[int, ...], value: int, piece: _Piece) -> None:
        words = self._memory.words
        for peer in self._others:
            if words[counters[peer]] < value:
                what = f"sum {piece.number} of {piece.values.numel()} values"
                try:
                    self._waiter.until(counters[peer], value, peer, what)
                except problems.LateRank as error:
                    self._broken = error
                    self._give_up(error.rank)
                    raise
        self._waiter.seen()

    def _is_there(self, counters: tuple[int, ...], value: int) -> bool:
        words = self._memory.words
        return all(words[counters[peer]] >= value for peer in self._others)

    def _give_up(self, blamed: int) -> None:
        self._gave_up = True
        self._to_reduce.clear()
        self._to_take.clear()
        self._waiter.set_state(waiting.State.FAILED, blamed)

    def _number_waiting(self) -> int:
        return len(self._to_reduce) + len(self._to_take)

    def _bank(self, number: int) -> int:
        return number % self._layout.banks


def _flat(values: torch.Tensor) -> torch.Tensor:
    if not sums.takes(values):
        raise problems.Mismatch(
            f"comm: shm sums CPU tensors of numbers, not {values.dtype} on {values.device}; "
            "use comm: gloo or nccl"
        )
    if not values.is_contiguous():
        raise problems.Mismatch("comm: shm submits contiguous tensors; call .contiguous() first")
    return values.detach().view(-1)


def _kind(dtype: torch.dtype, operation: Operation) -> int:
    return sums.DTYPES.index(dtype) << 8 | operation


def _text(elements: int, kind: int) -> str:
    dtype = str(sums.DTYPES[kind >> 8]).removeprefix("torch.")
    return f"{elements} x {dtype} ({Operation(kind & 0xFF).name.lower()})"
