"""What a worker rank does with parameter servers.

One thread of the rank calls a client. All calls wait at most as long as ``settings.Limits`` says,
and then raise ``PeerLost`` with the name of who is late.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from quintile_trainer import failures
from quintile_trainer.ps import (
    binding,
    calling,
    cut,
    endpoint,
    frames,
    job,
    layout,
    ledger,
    links,
    memory,
    optimizers,
    settings,
    staleness,
    state,
)

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Work:
    """What all workers of a run agree on; ``groups`` numbers optimizer groups by parameter."""

    rule: optimizers.Rule
    groups: Mapping[str, int] = field(default_factory=dict)
    consistency: settings.Consistency = settings.Consistency()
    chunk_bytes: int = layout.CHUNK_BYTES


@dataclass(frozen=True)
class Beginning:
    """Where training begins; only worker 0's is used, and its parameters are those of its model.

    ``clock`` is the step to go on from in sync, 0 otherwise; ``optimizer`` is keyed as in
    checkpoints; ``positions`` are what is leased in ssp and async.
    """

    clock: int = 0
    optimizer: Tensors = field(default_factory=dict)
    positions: job.Positions | None = None


@dataclass(frozen=True)
class Statistics:
    """Counters of all servers together; ``finished`` positions are part of the model."""

    updates: int
    duplicates: int
    finished: int
    clocks: tuple[int, ...]
    staleness: dict[int, int]


def join(
    team: settings.Team,
    secret: bytes,
    *,
    worker: int,
    parameters: Tensors,
    work: Work,
    beginning: Beginning | None = None,
) -> Client:
    """Meet the servers and bring all workers to worker 0's parameters.

    Args:
        team: The generation.
        secret: The trial's token.
        worker: Our rank.
        parameters: The trained parameters by name; on the processor they are bound in place.
        work: The same on every worker.
        beginning: Where to begin.

    Raises:
        BadInput: The model cannot be placed.
        PeerLost: Somebody did not come in time.
        Refused: The token is wrong, or worker 0 has another model; ``Fenced`` for an old
            generation.
    """
    begin = beginning or Beginning()
    described = binding.describe(parameters, work.groups)
    plan = layout.plan(described, team.servers, chunk_bytes=work.chunk_bytes)
    about = job.Job(plan, work.rule, work.consistency, begin.clock, begin.positions)
    connections = links.Links(team, secret, worker=worker)
    try:
        connections.connect()
        if worker == 0:
            _set_up(connections, about, parameters, begin.optimizer)
        clock = _attach(connections, about)
        client = Client(connections, about, parameters, clock=clock, secret=secret)
        client.pull()
    except BaseException:
        connections.close()
        raise
    return client


class Client:
    """A worker among parameter servers; made by ``join``."""

    def __init__(
        self,
        connections: links.Links,
        about: job.Job,
        parameters: Tensors,
        *,
        clock: int,
        secret: bytes,
    ) -> None:
        self.plan = about.plan
        self.about = about
        self._secret = secret
        self.shapes = {name: tensor.shape for name, tensor in parameters.items()}
        self._links = connections
        self._team = connections.team
        self._bound = binding.Binding(about.plan, parameters)
        self._clock = clock
        self._versions = [0] * len(about.plan.chunks)
        self._requests = 0
        self._reductions = 0
        self._lease: ledger.Lease | None = None
        self._pushed: ledger.Lease | None = None
        self._ticks = [
            server for server in range(self._team.servers) if not about.plan.of_server(server)
        ]

    @property
    def worker(self) -> int:
        """Return our rank."""
        return self._links.worker

    @property
    def workers(self) -> int:
        """Return how many workers there are."""
        return self._team.workers

    @property
    def clock(self) -> int:
        """Return how many pushes of this worker are done: the step of its next one."""
        return self._clock

    @property
    def reconnections(self) -> int:
        """Return how often a connection had to be made anew."""
        return self._links.reconnections

    def values(self) -> torch.Tensor:
        """Return all float32 parameters as one flat view, in the layout's order."""
        return self._bound.values("float32")

    def bind_gradients(self) -> None:
        """Let backward write its gradients to where they are sent from; call before each step.

        Optional, and instead of ``zero_grad``: it saves one copy of all gradients.
        """
        self._bound.bind_gradients()

    def pull(self) -> None:
        """Fill the model with the newest parameters that the ordering allows."""
        requests = [self._request(frames.PULL, chunk) for chunk in self.plan.chunks]
        self._exchange(requests, "parameters")

    def push(self, step: int, gradients: Tensors | None = None, *, rate: float) -> None:
        """Send gradients; returns once every server has taken them.

        Args:
            step: ``clock``; a step that was pushed already counts once.
            gradients: By name; None takes every parameter's ``grad``.
            rate: The learning rate of this update; in sync worker 0's counts.
        """
        self._push(step, gradients, rate=rate, flags=0)

    def exchange(self, step: int, gradients: Tensors | None = None, *, rate: float) -> None:
        """Push and pull in one round trip: parameters of a chunk come back once it is updated."""
        self._push(step, gradients, rate=rate, flags=frames.WANT)

    def lease(self, size: int) -> ledger.Lease | None:
        """Return positions to compute the next push from, at most ``size``; None at the end.

        A lease is complete once its push was acknowledged by all servers, which is told with the
        next call. At the end this worker is taken out of the clocks: nobody waits for it.
        """
        found = self._take_lease(size)
        self._lease = found
        if found is None:
            self.retire()
        return found

    def end_leases(self) -> None:
        """Let no worker get positions any more, so that all of them leave soon. Repeatable."""
        request = self._control(0, frames.LEASE, flags=frames.DONE)
        self._links.exchange([request], place=None, what="the end of leases")

    def retire(self) -> None:
        """Push no more, and let nobody wait for a push of this worker; reading goes on."""
        self._to_all(frames.RETIRE, "the end of pushes")

    def barrier(self) -> None:
        """Wait until all workers are here."""
        self.total(torch.zeros(0))

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers, in rank order and float64, element by element."""
        return self._reduce(values, 0)

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise maximum over all workers."""
        return self._reduce(values, frames.MAXIMUM)

    def statistics(self) -> Statistics:
        """Return the counters of all servers."""
        requests = [self._control(n, frames.STATUS) for n in range(self._team.servers)]
        self._links.exchange(requests, place=None, what="counters")
        found = [json.loads(bytes(request.content or b"{}")) for request in requests]
        return Statistics(
            updates=sum(part["updates"] for part in found),
            duplicates=sum(part["duplicates"] for part in found),
            finished=sum(part["finished"] for part in found),
            clocks=tuple(found[0]["clocks"]),
            staleness=staleness.merged(part["staleness"] for part in found),
        )

    def checkpoint_cut(self) -> cut.Cut:
        """Begin a consistent cut through all servers; training goes on while it is read.

        In sync it holds exactly the pushes before ``clock``. Call it between two steps, on one
        worker; one at a time.
        """
        return cut.begin(
            cut.Source(self._team, self._secret, self.worker, self._links.addresses),
            self.about,
            self.shapes,
            clock=self._clock,
        )

    def close(self) -> None:
        """Say goodbye to all servers; they end once every worker did."""
        if self._pushed is not None:
            self._take_lease(0)
        self._to_all(frames.BYE, "goodbye")
        self._links.close()

    def abandon(self) -> None:
        """Close all connections at once, after a failure."""
        self._links.close()

    def _reduce(self, values: torch.Tensor, flags: int) -> torch.Tensor:
        sent = values.detach().to("cpu", torch.float64, copy=True).contiguous()
        answer = torch.zeros_like(sent)
        payload = memory.view(sent) if sent.numel() else None
        # All ranks make the same calls in one order, so their numbers agree.
        self._reductions += 1
        header = self._header(frames.REDUCE)._replace(
            step=self._reductions, flags=flags, length=8 * sent.numel()
        )
        request = links.Request(0, header, payload)
        self._links.exchange([request], place=None, what="a reduction over all workers")
        if request.content is not None:
            memory.view(answer)[:] = request.content
        return answer.to(values.dtype)

    def _take_lease(self, size: int) -> ledger.Lease | None:
        """Tell that the last push is complete, and ask for ``size`` positions."""
        done = self._pushed.start + 1 if self._pushed is not None else 0
        request = self._control(0, frames.LEASE, version=size, lease=done)
        self._links.exchange([request], place=None, what="a lease")
        self._pushed = None
        answer = request.answer
        assert answer is not None
        if answer.flags & frames.DONE:
            return None
        return ledger.Lease(answer.version, answer.lease)

    def _push(self, step: int, gradients: Tensors | None, *, rate: float, flags: int) -> None:
        if step not in (self._clock, self._clock - 1):
            raise ValueError(f"step {step} cannot be pushed; this worker's clock is {self._clock}")
        self._bound.gather(gradients)
        origin = self._lease.start + 1 if self._lease is not None else 0
        requests = []
        for chunk in self.plan.chunks:
            request = self._request(frames.PUSH, chunk)
            request.payload = self._bound.gradient_bytes(chunk)
            requests.append(request)
        for server in self._ticks:
            requests.append(links.Request(server, self._header(frames.PUSH)))
        for request in requests:
            request.header = request.header._replace(
                flags=flags, step=step, rate=rate, lease=origin
            )
        self._exchange(requests, f"the push of step {step}")
        self._clock = step + 1
        if self._lease is not None:
            self._pushed, self._lease = self._lease, None

    def _exchange(self, requests: list[links.Request], what: str) -> None:
        self._links.exchange(requests, place=self._place, what=what)
        for request in requests:
            answer = request.answer
            if answer is not None and answer.kind == frames.VALUE:
                self._versions[answer.chunk] = answer.version
        self._bound.publish()

    def _place(self, header: frames.Header) -> memoryview:
        return self._bound.value_bytes(self.plan.chunks[header.chunk])

    def _request(self, kind: int, chunk: layout.Chunk) -> links.Request:
        payload = chunk.size_bytes if kind == frames.PUSH else 0
        header = self._header(kind)._replace(
            chunk=chunk.number,
            length=payload,
            step=self._clock,
            version=self._versions[chunk.number],
        )
        return links.Request(chunk.server, header)

    def _header(self, kind: int) -> frames.Header:
        return frames.Header(kind, worker=self.worker, generation=self._team.generation)

    def _control(self, server: int, kind: int, **fields: Any) -> links.Request:
        """Return a request with a number of its own, so that it may be repeated."""
        self._requests += 1
        header = self._header(kind)._replace(step=self._requests, **fields)
        return links.Request(server, header)

    def _to_all(self, kind: int, what: str) -> None:
        requests = [self._control(server, kind) for server in range(self._team.servers)]
        self._links.exchange(requests, place=None, what=what)


def _set_up(
    connections: links.Links, about: job.Job, parameters: Tensors, optimizer: Tensors
) -> None:
    """Give the servers the job, the parameters and the optimizer's state."""
    servers = range(connections.team.servers)
    text = json.dumps(about.document()).encode()
    begin = frames.Header(frames.SETUP, length=len(text), step=1)
    connections.exchange(
        [links.Request(n, begin, text) for n in servers], place=None, what="the setup"
    )
    for part in state.split(about.plan, about.rule, parameters, optimizer):
        payload = memory.view(part.values)
        header = frames.Header(
            frames.LOAD,
            chunk=part.chunk.number,
            length=len(payload),
            step=part.entry,
            version=part.entry,
            lease=part.steps,
        )
        request = links.Request(part.chunk.server, header, payload)
        connections.exchange([request], place=None, what="the first parameters")
    start = frames.Header(frames.START, step=2)
    connections.exchange([links.Request(n, start) for n in servers], place=None, what="the start")


def _attach(connections: links.Links, about: job.Job) -> int:
    """Wait for the start of the job; return the clock it begins at."""
    limits = connections.team.limits
    deadline = time.monotonic() + limits.meeting_s + limits.handshake_s
    clock = 0
    for server in range(connections.team.servers):
        frame = frames.text(frames.ATTACH, {"digest": about.digest})
        where = connections.name(server)
        try:
            clock = calling.ask(connections.end(server), frame, deadline, where=where)["clock"]
        except endpoint.Closed as error:
            raise failures.PeerLost(f"{where} closed the connection: {error}") from error
    return clock
