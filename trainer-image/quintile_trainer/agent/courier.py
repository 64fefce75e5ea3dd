"""Talks to the coordinator for the main thread: joins, exits, heartbeats. Two threads.

The courier does one errand after the other and tries each until it is done or cancelled; the pulse
says every two seconds that we live, and hands on what it is told.
"""

from __future__ import annotations

import errno
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence

from quintile_trainer import layout
from quintile_trainer.agent import (
    bundles,
    inbox,
    launching,
    limits,
    link,
    peers,
    resume,
    shipper,
    wire,
)

EXIT_FLUSH_S = 10.0
RESCUE_FLUSH_S = 60.0
"""How long a restart waits for the newest checkpoint of the ranks before to be stored."""
HEARTBEAT_TIMEOUT_S = 10.0
QUICK_S = 0.2
"""A join that is answered faster than this was not held; the next one waits as long."""


class Courier:
    """Carries messages in order. ``run`` has a thread of its own."""

    def __init__(
        self,
        shared: link.Link,
        box: inbox.Inbox,
        *,
        ships: shipper.Shipper,
        sources: resume.Sources,
    ) -> None:
        self._link = shared
        self._box = box
        self._ships = ships
        self._sources = sources
        self._client = shared.client()
        self._errands: queue.Queue[Callable[[], None]] = queue.Queue()
        self._cancelled = threading.Event()
        self._held: socket.socket | None = None

    def join(self, ticket: int) -> None:
        """Join the newest generation; ends in ``Ready`` with this ticket, or ``Advice``."""
        self._errands.put(lambda: self._join(ticket))

    def report(self, end: wire.RankEnd, generation: int) -> None:
        """Report the end of a rank; what the coordinator says comes back as ``Advice``."""
        self._errands.put(lambda: self._report(end, generation))

    def cancel(self) -> None:
        """Give up the errand under way and all that wait."""
        self._cancelled.set()

    def release_port(self) -> None:
        """Let go of the rendezvous port that was kept since the join."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def run(self) -> None:
        """Do errands until the process ends."""
        while True:
            errand = self._errands.get()
            try:
                errand()
            except link.Cancelled:
                continue
            except link.Refused as refused:
                self._box.post(_advice_of(refused, self._link.generation))
            except bundles.BadBundle as error:
                self._box.post(inbox.Broken("InvalidSpec", str(error), lasting=True))
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                self._box.post(inbox.Broken("DiskFull" if full else "AgentInternal", str(error)))

    def _join(self, ticket: int) -> None:
        env = self._link.env
        # The next generation goes on from what is committed when its last member has joined.
        self._ships.flush(RESCUE_FLUSH_S, self._cancelled)
        while True:
            place = wire.Place(
                members=env.members,
                max_restarts=env.max_in_place,
                progress_timeout_s=limits.progress_timeout_s(env.program),
                start_timeout_s=limits.start_timeout_s(env.program),
                least=env.least,
                procs=env.procs,
                host=env.host,
                port=self._hold_port(),
            )
            begun = time.monotonic()
            answer = self._post("join", wire.join(self._link.envelope(), place))
            self._link.generation = int(answer["generation"])
            plan = answer.get("plan")
            if answer["state"] == "running" and plan is not None:
                break
            if answer["directive"] != "continue":
                self._box.post(_advice(answer, self._link.generation))
                return
            if time.monotonic() - begun < QUICK_S:
                self._cancelled.wait(QUICK_S)
        self._prepare(ticket, plan)

    def _prepare(self, ticket: int, plan: wire.Json) -> None:
        """Bring what the ranks need to this machine."""
        lost = peers.await_names(peers.hosts(plan), self._cancelled)
        if lost and not self._cancelled.is_set():
            words = f"{', '.join(lost)} cannot be resolved after {peers.PATIENCE_S:g} s"
            self._box.post(inbox.Broken("NameUnknown", words))
            return
        if self._link.env.role == layout.SERVERS:
            # Parameter servers get everything from the workers.
            self._box.post(inbox.Ready(ticket, plan, "", None))
            return
        program = self._link.env.program
        sha256 = bundles.named(program)
        if sha256 and not self._sources.has_bundle(sha256):
            data = self._persist(lambda: self._client.get_bytes(f"/bundles/{sha256}"))
            self._sources.keep_bundle(sha256, data)
        access = None
        if program.get("dataset"):
            # Asked for every generation: the URLs in it do not live for ever.
            path = self._link.path("dataset") + resume.dataset_query(program["dataset"])
            access = self._persist(lambda: self._client.get(path))
        point = plan.get("resume")
        never = program.get("checkpoint", {}).get("resume") == "Never"
        folder = ""
        if point is not None and not (never and int(plan["generation"]) == 1):
            folder = str(self._persist(lambda: self._sources.checkpoint(plan)))
        self._box.post(inbox.Ready(ticket, plan, folder, access))

    def _report(self, end: wire.RankEnd, generation: int) -> None:
        # The newest state goes first: the report may open a generation that fences it. A rank that
        # is done must have delivered everything before others hear that the run succeeded.
        limit_s = EXIT_FLUSH_S if end.exit_code else self._link.env.away_limit_s
        self._ships.flush(limit_s, self._cancelled)
        try:
            envelope, leaving = self._link.envelope(generation), self._link.leaving
            answer = self._post("exits", wire.rank_exit(envelope, end, leaving=leaving))
            self._box.post(_advice(answer, generation))
        finally:
            self._box.post(inbox.Delivered(generation, end.rank))

    def _post(self, route: str, body: wire.Json) -> wire.Json:
        return self._persist(lambda: self._client.post(self._link.path(route), body))

    def _persist(self, call: Callable[[], link.Result]) -> link.Result:
        return self._link.persist(call, self._cancelled)

    def _hold_port(self) -> int:
        """Return a free port, bound until the ranks start, so that nobody else is given it."""
        if self._held is None:
            self._held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            host = self._link.env.host
            self._held.bind((host if launching.is_loopback(host) else "", 0))
        return int(self._held.getsockname()[1])


class Pulse:
    """Says every few seconds that the agent and its ranks live. ``run`` has its own thread."""

    def __init__(
        self, shared: link.Link, box: inbox.Inbox, ranks: Callable[[], Sequence[wire.RankView]]
    ) -> None:
        self._link = shared
        self._box = box
        self._ranks = ranks
        self._client = shared.client(HEARTBEAT_TIMEOUT_S)
        self._soon = threading.Event()
        self._said_farewell = threading.Event()

    def farewell(self, patience_s: float) -> None:
        """Tell that the agent leaves, and wait until that is heard."""
        self._soon.set()
        self._said_farewell.wait(patience_s)

    def hurry(self) -> None:
        """Beat at once."""
        self._soon.set()

    def run(self) -> None:
        """Beat until the process ends; silent before the first join was answered."""
        while True:
            self._soon.wait(self._link.env.heartbeat_s)
            self._soon.clear()
            if self._link.generation == 0:
                continue
            asked = self._link.generation
            envelope, leaving = self._link.envelope(asked), self._link.leaving
            body = wire.heartbeat(envelope, self._ranks(), leaving=leaving)
            try:
                answer = self._client.post(self._link.path("heartbeat"), body)
            except link.Away:
                continue
            except link.Refused as refused:
                self._box.post(_advice_of(refused, asked))
            else:
                self._box.post(_advice(answer, asked))
            if leaving:
                self._said_farewell.set()


def _advice(answer: wire.Json, asked: int) -> inbox.Advice:
    generation = int(answer["generation"])
    return inbox.Advice(answer["directive"], answer["state"], generation, asked)


def _advice_of(refused: link.Refused, asked: int) -> inbox.Event:
    if refused.directive:
        state = str(refused.problem.get("state", ""))
        generation = int(refused.problem.get("generation", 0))
        return inbox.Advice(refused.directive, state, generation, asked)
    if refused.status == 404:
        return inbox.Broken("NotFound", str(refused), lasting=True)
    if refused.status == 422:
        return inbox.Broken("InvalidSpec", str(refused), lasting=True)
    return inbox.Broken("ApiRefused", f"HTTP {refused.status}: {refused}")
