"""How a generation comes together: server 0 knows all addresses, worker 0 says what the job is."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from quintile_trainer import failures
from quintile_trainer.ps import frames, job, memory, peers, settings, updates


class Meeting:
    """The beginning of one server, until worker 0 says START.

    Args:
        team: Who is to come.
        server: Our number.
        address: Where workers reach us.
    """

    def __init__(self, team: settings.Team, *, server: int, address: tuple[str, int]) -> None:
        self._team = team
        self._server = server
        self._addresses: dict[int, tuple[str, int]] = {server: address} if server == 0 else {}
        self._asking: list[peers.Peer] = []
        self._attaching: list[tuple[peers.Peer, str]] = []
        self.job: job.Job | None = None
        self.updates: updates.Updates | None = None
        self.started = False

    def register(self, peer: peers.Peer, document: Any) -> None:
        """Note where another server listens; tell all workers once every one is known."""
        self._addresses[peer.number] = (str(document["host"]), int(document["port"]))
        if len(self._addresses) == self._team.servers:
            for asking in self._asking:
                self._tell(asking)
            self._asking.clear()

    def directory(self, peer: peers.Peer) -> None:
        """Answer with all addresses, as soon as they are known."""
        if len(self._addresses) == self._team.servers:
            self._tell(peer)
        else:
            self._asking.append(peer)

    def setup(self, document: Any) -> None:
        """Take the job from worker 0; saying it again changes nothing."""
        found = job.parse(document)
        if found.plan.servers != self._team.servers:
            raise peers.Malformed(
                f"it laid the model out for {found.plan.servers} servers of {self._team.servers}"
            )
        if self.updates is None:
            workers = self._team.workers
            self.job = found
            self.updates = updates.Updates(found, server=self._server, workers=workers)

    def place(self, header: frames.Header) -> memoryview:
        """Return the memory that a LOAD fills; ``version`` is the entry, ``lease`` its steps.

        Raises:
            Malformed: It is not the time for it, or there is no such entry.
        """
        if self.updates is None or self.started:
            raise peers.Malformed("it loaded parameters outside of the setup")
        chunk = self.updates.store.chunks.get(header.chunk)
        entries = 1 + len(self.updates.store.rule.entries)
        if chunk is None or header.version >= entries or header.length != 4 * chunk.about.size:
            raise peers.Malformed(f"it loaded entry {header.version} of chunk {header.chunk}")
        return memory.view(chunk.entry(header.version))

    def loaded(self, peer: peers.Peer, header: frames.Header) -> None:
        """Note that an entry is filled; state of the optimizer carries its number of updates."""
        assert self.updates is not None
        state = self.updates.store.chunks[header.chunk].state
        if header.version > 0:
            state.fresh = False
        state.steps = max(state.steps, header.lease)
        peer.acknowledge(header)

    def start(self) -> None:
        """Open for pushes and pulls."""
        if self.job is None:
            raise peers.Malformed("it started a job that it did not set up")
        self.started = True
        for peer, digest in self._attaching:
            self._answer(peer, digest)
        self._attaching.clear()

    def attach(self, peer: peers.Peer, document: Any) -> None:
        """Answer a worker once the job runs, if its job is the same."""
        digest = str(document["digest"])
        if self.started:
            self._answer(peer, digest)
        else:
            self._attaching.append((peer, digest))

    def check(self, arrived: Set[int], waited_s: float) -> None:
        """Look whether everybody came in time.

        Raises:
            PeerLost: Names who did not.
        """
        limit = self._team.limits.meeting_s
        missing_workers = [n for n in range(self._team.workers) if n not in arrived]
        if waited_s <= limit or (self.started and not missing_workers):
            return
        servers = [f"parameter server {n}" for n in self._missing_servers()]
        workers = [f"worker {n}" for n in missing_workers]
        missing = ", ".join(servers + workers) or "worker 0 to start"
        raise failures.PeerLost(f"parameter server {self._server} waited {limit:g} s for {missing}")

    def _missing_servers(self) -> list[int]:
        if self._server != 0:
            return []
        return [n for n in range(self._team.servers) if n not in self._addresses]

    def _tell(self, peer: peers.Peer) -> None:
        addresses = [self._addresses[number] for number in range(self._team.servers)]
        peer.send_text(frames.DIRECTORY, addresses)

    def _answer(self, peer: peers.Peer, digest: str) -> None:
        assert self.job is not None
        if digest == self.job.digest:
            peer.send_text(frames.ATTACH, {"clock": self.job.clock})
        else:
            peer.refuse(
                f"worker {peer.number} has another model, optimizer or ordering than worker 0; "
                "model_fn must build the same model on every rank"
            )
