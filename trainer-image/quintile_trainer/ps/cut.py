"""A worker's side of a checkpoint: name the cut on all servers, then read the copies behind.

The connections are of their own, so that training goes on; their end is the end of the cut on every
server, whatever happened.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass

import torch

from quintile_trainer import failures
from quintile_trainer.ps import clocks, frames, job, layout, links, memory, settings, state

WINDOW_BYTES = 8 << 20


@dataclass(frozen=True)
class Source:
    """Where to read, and as whom."""

    team: settings.Team
    secret: bytes
    worker: int
    addresses: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Contents:
    """What a cut holds, keyed by parameter name.

    ``clocks`` is the last push of each worker in it; ``positions`` what they cover (ssp, async).
    """

    parameters: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    clocks: tuple[int, ...]
    positions: job.Positions | None


class Cut:
    """A cut that is being read."""

    def __init__(self, reading: futures.Future[Contents]) -> None:
        self._reading = reading

    @property
    def is_read(self) -> bool:
        """Return whether ``contents`` answers at once."""
        return self._reading.done()

    def contents(self) -> Contents:
        """Return what the cut holds, waiting for it.

        Raises:
            PeerLost: A server is gone.
            Refused: The cut was not reached in time; the message names who was late.
        """
        return self._reading.result()


def begin(source: Source, about: job.Job, shapes: Mapping[str, torch.Size], *, clock: int) -> Cut:
    """Name a cut on all servers and begin to read it. Returns once all know it.

    Args:
        source: Where to read.
        about: The job.
        shapes: Of the parameters.
        clock: The asking worker's.

    Raises:
        PeerLost: A server is gone.
        Refused: Another cut is under way.
    """
    connections = links.Links(source.team, source.secret, worker=source.worker, role="reader")
    try:
        connections.connect(source.addresses)
        _name(connections, about.consistency, clock)
    except BaseException:
        connections.close()
        raise
    reading: futures.Future[Contents] = futures.Future()

    def read() -> None:
        # The connections close before anybody hears of the end: the next cut may begin at once.
        try:
            with contextlib.closing(connections):
                found = _read(connections, about, shapes)
        except BaseException as error:  # the boundary of the thread: whoever asks gets it
            reading.set_exception(error)
        else:
            reading.set_result(found)

    threading.Thread(target=read, name="parameter-cut", daemon=True).start()
    return Cut(reading)


def _name(connections: links.Links, consistency: settings.Consistency, clock: int) -> None:
    everyone = range(connections.team.servers)
    # In async every server says what it let in, and holds the rest; otherwise server 0 decides.
    asked = everyone if consistency.ordering == "async" else (0,)
    header = frames.Header(frames.CUT_OPEN, step=clock)
    requests = [links.Request(server, header) for server in asked]
    connections.exchange(requests, place=None, what="the naming of a cut")
    vectors = [json.loads(bytes(request.content or b"")) for request in requests]
    text = json.dumps(clocks.merge(vectors)).encode()
    header = frames.Header(frames.CUT_AT, length=len(text))
    # Server 0 is the last to know: until then it answers no push of the cut's last clock, so that
    # nobody can be beyond the cut on a server that does not know it yet.
    for told in (everyone[1:], everyone[:1]):
        connections.exchange(
            [links.Request(server, header, text) for server in told],
            place=None,
            what="the naming of a cut",
        )


def _read(connections: links.Links, about: job.Job, shapes: Mapping[str, torch.Size]) -> Contents:
    waits = [
        links.Request(server, frames.Header(frames.CUT_WAIT))
        for server in range(connections.team.servers)
    ]
    connections.exchange(waits, place=None, what="the snapshot of a cut")
    facts = [json.loads(bytes(request.content or b"{}")) for request in waits]
    vectors = {tuple(fact["clocks"]) for fact in facts}
    if len(vectors) != 1:
        raise failures.Broken(f"the cut is not consistent: servers stand at {sorted(vectors)}")
    assembly = state.Assembly(about.plan, about.rule, shapes)
    for batch in _batches(about):
        _fetch(connections, batch, assembly)
    positions = facts[0]["positions"]
    if positions is not None and about.positions is not None:
        done = tuple((start, stop) for start, stop in positions["done"])
        positions = job.Positions(positions["total"], about.positions.block, done)
    return Contents(
        parameters=assembly.parameters(),
        optimizer=assembly.optimizer(),
        clocks=vectors.pop(),
        positions=positions,
    )


def _fetch(
    connections: links.Links,
    batch: Sequence[tuple[layout.Chunk, int]],
    assembly: state.Assembly,
) -> None:
    buffers = {(chunk.number, entry): torch.empty(chunk.size) for chunk, entry in batch}

    def place(header: frames.Header) -> memoryview:
        return memory.view(buffers[header.chunk, header.version])

    requests = [
        links.Request(
            chunk.server,
            frames.Header(frames.FETCH, chunk=chunk.number, version=entry, step=entry),
        )
        for chunk, entry in batch
    ]
    connections.exchange(requests, place=place, what="the copies of a cut")
    for (chunk, entry), request in zip(batch, requests, strict=True):
        answer = request.answer
        assert answer is not None
        part = state.Part(chunk, entry, answer.lease >> 1, buffers[chunk.number, entry])
        assembly.add(part, fresh=bool(answer.lease & 1))


def _batches(about: job.Job) -> Iterator[list[tuple[layout.Chunk, int]]]:
    """Yield what is read together, across servers, a few megabytes at a time."""
    batch: list[tuple[layout.Chunk, int]] = []
    size = 0
    for chunk in about.plan.chunks:
        for entry in range(1 + len(about.rule.entries)):
            batch.append((chunk, entry))
            size += 4 * chunk.size
            if size >= WINDOW_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
