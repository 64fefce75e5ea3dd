"""Servers, workers and a checkpoint in one model of a network that delivers in any order.

Every connection is a queue; which one moves next, and when pushes are repeated, is drawn. The
gradients count: element w of every chunk is the number of pushes of worker w that are part of it.
"""

from __future__ import annotations

import collections
import json
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile_trainer import failures
from quintile_trainer.ps import (
    clocks,
    cutting,
    frames,
    job,
    layout,
    memory,
    optimizers,
    peers,
    updates,
)
from quintile_trainer.ps import settings as ps_settings

SERVERS, WORKERS, STEPS = 3, 3, 6
PLAN = layout.Layout(
    parameters=tuple(layout.Parameter(f"p{n}", WORKERS, "float32", n) for n in range(7)),
    chunks=tuple(
        layout.Chunk(n, n % SERVERS, "float32", n, n * WORKERS, WORKERS) for n in range(7)
    ),
    servers=SERVERS,
    chunk_bytes=4 * WORKERS,
)
RULE = optimizers.Rule("sgd", decays=(0.0,) * 7)


class Caller:
    """Stands for one connection at the server; what is sent to it is kept."""

    broken = ""

    def __init__(self, number: int) -> None:
        self.number = number
        self.heard: collections.deque[tuple[frames.Header, bytes]] = collections.deque()

    def send(self, head: bytes, payload: Any = b"") -> None:
        self.heard.append((frames.unpack(head), bytes(payload)))

    send_live = send

    def send_text(self, kind: int, document: Any, **fields: int) -> None:
        self.send(*frames.text(kind, document, **fields))

    def acknowledge(self, header: frames.Header) -> None:
        self.send(frames.Header(frames.ACK, chunk=header.chunk, step=header.step).pack())

    def refuse(self, reason: str) -> None:
        raise AssertionError(reason)


class Server:
    def __init__(self, number: int, consistency: ps_settings.Consistency) -> None:
        about = job.Job(PLAN, RULE, consistency)
        self.work = updates.Updates(about, server=number, workers=WORKERS)
        self.cut = cutting.Cutting(self.work, consistency, None, limit_s=1e9)

    def on(self, caller: Caller, header: frames.Header, document: Any) -> None:
        if header.kind == frames.PUSH:
            buffer = self.work.buffer(header)
            gradient = torch.zeros(WORKERS)
            gradient[header.worker] = -1.0
            buffer.view[:] = memory.view(gradient)
            self.let_in([updates.Push(caller, header, buffer)])
        elif header.kind == frames.CUT_OPEN:
            self.let_in(self.cut.open(caller, header))
        else:
            self.let_in(self.cut.name(caller, document))

    def let_in(self, pushes: list[updates.Push]) -> None:
        while pushes:
            if self.work.push(pushes.pop(0)):
                pushes.extend(self.cut.advance())


class World:
    def __init__(self, consistency: ps_settings.Consistency) -> None:
        self.consistency = consistency
        self.servers = [Server(number, consistency) for number in range(SERVERS)]
        self.callers = {(w, s): Caller(w) for w in range(WORKERS) for s in range(SERVERS)}
        self.readers = [Caller(0) for _ in range(SERVERS)]
        self.queues: dict[Any, collections.deque[Any]] = collections.defaultdict(collections.deque)
        self.clocks = [0] * WORKERS
        self.owed: list[set[int]] = [set() for _ in range(WORKERS)]
        self.vectors: list[list[int]] = []
        self.asked = 0
        self.named = 0

    def begin(self, worker: int) -> None:
        """Let a worker without a push under way push its next step to all servers."""
        if self.owed[worker] or self.clocks[worker] == STEPS:
            return
        self.owed[worker] = {chunk.number for chunk in PLAN.chunks}
        self.send(worker)

    def send(self, worker: int) -> None:
        for number in sorted(self.owed[worker]):
            chunk = PLAN.chunks[number]
            header = frames.Header(
                frames.PUSH,
                flags=frames.WANT,
                worker=worker,
                chunk=number,
                length=chunk.size_bytes,
                step=self.clocks[worker],
                rate=1.0,
            )
            self.queues[worker, chunk.server].append((header, None))

    def deliver(self, worker: int, server: int) -> None:
        queue, caller = self.queues[worker, server], self.callers[worker, server]
        if queue:
            header, document = queue.popleft()
            self.servers[server].on(caller, header, document)

    def hear(self, worker: int) -> None:
        """Let a worker hear all answers that are there."""
        for server in range(SERVERS):
            heard = self.callers[worker, server].heard
            while heard:
                header, _payload = heard.popleft()
                if header.step == self.clocks[worker]:
                    self.owed[worker].discard(header.chunk)
        if not self.owed[worker] and any(self.queues[worker, s] for s in range(SERVERS)):
            return
        if not self.owed[worker] and self.sent(worker):
            self.clocks[worker] += 1

    def sent(self, worker: int) -> bool:
        begun = [server.work.clocks.complete[worker] for server in self.servers]
        return min(begun) > self.clocks[worker]

    def open_cut(self) -> None:
        """Ask as ``cut.begin`` does: server 0, or in async all."""
        self.asked = SERVERS if self.consistency.ordering == "async" else 1
        for server in range(self.asked):
            header = frames.Header(frames.CUT_OPEN, step=self.clocks[0])
            self.queues["reader", server].append((header, None))

    def read(self, server: int) -> None:
        """Let one message of the reader through, and the reader act on the answers."""
        if self.queues["reader", server]:
            header, document = self.queues["reader", server].popleft()
            self.servers[server].on(self.readers[server], header, document)
        heard = self.readers[server].heard
        while heard:
            header, payload = heard.popleft()
            if header.kind == frames.CUT_OPEN:
                self.vectors.append(json.loads(payload))
                if len(self.vectors) == self.asked:
                    for other in range(1, SERVERS):
                        self.name_cut(other)
            elif header.kind == frames.CUT_AT:
                self.named += 1
                if self.named == SERVERS - 1:
                    self.name_cut(0)

    def name_cut(self, server: int) -> None:
        targets = list(clocks.merge(self.vectors))
        self.queues["reader", server].append((frames.Header(frames.CUT_AT), targets))

    def counts(self, server: int, *, saved: bool) -> set[tuple[float, ...]]:
        store = self.servers[server].work.store
        scale = WORKERS if self.consistency.ordering == "sync" else 1
        found = set()
        for number, chunk in store.chunks.items():
            values = chunk.state.master
            if saved:
                values = torch.frombuffer(
                    bytearray(store.saved(number).entry(0)), dtype=torch.float32
                )
            found.add(tuple(round(float(value) * scale, 3) for value in values))
        return found


ORDERINGS = [
    ps_settings.Consistency("sync"),
    ps_settings.Consistency("ssp", 0),
    ps_settings.Consistency("ssp", 2),
    ps_settings.Consistency("async"),
]
MOVES = ("begin", "deliver", "deliver", "deliver", "deliver", "hear", "read")
PACES = ((1, 1, 1), (8, 2, 1), (1, 8, 2), (2, 1, 8))


@pytest.mark.parametrize("consistency", ORDERINGS, ids=lambda c: f"{c.ordering}-{c.bound}")
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), pace=st.sampled_from(PACES), cut_at=st.integers(0, 250))
def test_every_push_counts_once_and_is_in_a_cut_on_all_servers_or_on_none(
    consistency: ps_settings.Consistency, seed: int, pace: tuple[int, ...], cut_at: int
) -> None:
    world = World(consistency)
    drawn = random.Random(seed)
    for number in range(300):
        # In sync the asking worker is between two steps while it asks.
        if number >= cut_at and not world.asked and not world.owed[0]:
            world.open_cut()
        (worker,) = drawn.choices(range(WORKERS), pace)
        move = "repeat" if drawn.random() < 0.02 else drawn.choice(MOVES)
        act(world, move, worker, drawn.randrange(SERVERS))
        hold_bounds(world)
    if not world.asked:
        while world.owed[0]:
            drain(world)
        world.open_cut()
    for _ in range(4 * STEPS * WORKERS):
        drain(world)
    assert world.clocks == [STEPS] * WORKERS
    in_cut = set()
    for server in range(SERVERS):
        assert world.counts(server, saved=False) == {(float(STEPS),) * WORKERS}
        assert world.servers[server].work.cut is not None
        assert world.servers[server].work.cut.taken
        in_cut |= world.counts(server, saved=True)
    assert len(in_cut) == 1
    if consistency.ordering != "async":
        assert len(set(in_cut.pop())) == 1


def act(world: World, move: str, worker: int, server: int) -> None:
    if move == "begin":
        # ``checkpoint_cut`` returns once all servers know the cut; the asker pushes after that.
        if worker != 0 or not world.asked or world.named == SERVERS:
            world.begin(worker)
    elif move == "deliver":
        world.deliver(worker, server)
    elif move == "hear":
        world.hear(worker)
    elif move == "repeat":
        world.send(worker)
    else:
        world.read(server)


def drain(world: World) -> None:
    for server in range(SERVERS):
        world.read(server)
    for worker in range(WORKERS):
        act(world, "begin", worker, 0)
        for server in range(SERVERS):
            while world.queues[worker, server]:
                world.deliver(worker, server)
        world.hear(worker)


def hold_bounds(world: World) -> None:
    """Nobody gets parameters that its ordering forbids."""
    if world.consistency.ordering in ("sync", "ssp"):
        bound = world.consistency.bound if world.consistency.ordering == "ssp" else 0
        for server in world.servers:
            slowest = min(server.work.clocks.complete)
            assert max(world.clocks) - slowest <= bound


def test_pushes_out_of_turn_and_of_other_sizes_are_malformed() -> None:
    server = Server(0, ORDERINGS[0])
    chunk = PLAN.of_server(0)[0]
    header = frames.Header(frames.PUSH, chunk=chunk.number, length=chunk.size_bytes, step=3)
    with pytest.raises(peers.Malformed, match="pushed step 3, expected step 0"):
        server.on(Caller(0), header, None)
    with pytest.raises(peers.Malformed, match=r"pushed 1 bytes for chunk \d+ of 12"):
        server.work.buffer(header._replace(length=1))
    foreign = PLAN.of_server(1)[0]
    with pytest.raises(peers.Malformed, match="not on this server"):
        server.work.buffer(header._replace(chunk=foreign.number))


def test_who_is_late_is_named() -> None:
    server = Server(0, ps_settings.Consistency("ssp", 1))
    caller = Caller(1)
    for step in range(2):
        for chunk in PLAN.of_server(0):
            header = frames.Header(
                frames.PUSH,
                flags=frames.WANT,
                worker=1,
                chunk=chunk.number,
                length=chunk.size_bytes,
                step=step,
            )
            server.on(caller, header, None)
    with pytest.raises(failures.PeerLost, match="workers 0, 2 did not push step 0 within 5 s"):
        server.work.check(1e12, 5, frozenset())
    server.work.clocks.retire(0)
    server.work.clocks.retire(2)
    server.let_in(server.cut.advance())
    server.work.check(1e12, 5, frozenset())
