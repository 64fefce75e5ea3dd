"""A coordinator in one small HTTP server, for tests of the agent.

Speaks ``quintile.core.messages`` on the agent's routes, keeps everything in memory, and can go away
and come back on the same port. Rules are those of the real one, as far as the agent can tell.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pydantic

from quintile.core import messages, names
from quintile.testing import loopback

Answer = tuple[int, Any]
Stream = tuple[int, int, int]
"""(attempt, generation, rank)."""
JOIN_WAIT_S = 2.0
API = "/api/v1/internal"
BYTES = "/api/v1/bytes/"


@dataclass
class State:
    """What the coordinator knows; tests read it under no lock once agents have ended."""

    attempt: int = 1
    generation: int = 1
    state: messages.GenerationState = "forming"
    directive: messages.Directive = "continue"
    joined: dict[tuple[str, int], messages.Join] = field(default_factory=dict)
    plan: messages.GenerationPlan | None = None
    plans: list[messages.GenerationPlan] = field(default_factory=list)
    exits: list[messages.RankExit] = field(default_factory=list)
    beats: list[messages.Heartbeat] = field(default_factory=list)
    metrics: dict[Stream, dict[int, messages.MetricPoint]] = field(default_factory=dict)
    logs: dict[Stream, dict[int, messages.LogLine]] = field(default_factory=dict)
    commits: list[messages.CheckpointCommit] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    access: messages.DatasetAccess | None = None
    bundles: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


class FakeCoordinator:
    """Serves one trial. ``start``, ``go_away`` and ``stop``; ``url`` is the API's base."""

    def __init__(self, trial_uid: str = "trial-uid", *, token: str = "token") -> None:
        self.trial_uid = trial_uid
        self.token = token
        self.known = State()
        self.changed = threading.Condition()
        self._server: loopback.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._server = loopback.Server(self._serve, port=self._port)
        self._port = self._server.port

    def go_away(self) -> None:
        """Stop answering; everything stays known."""
        assert self._server is not None
        self._server.close()
        self._server = None

    def stop(self) -> None:
        """Stop for good. Idempotent."""
        if self._server is not None:
            self.go_away()

    def wait(self, holds: Callable[[State], bool], *, timeout_s: float) -> None:
        """Return when something holds.

        Raises:
            TimeoutError: It did not in time.
        """
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not holds(self.known):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"not reached in {timeout_s} s; state {self.known.state}")
                self.changed.wait(min(left, 0.2))

    def regenerate(self) -> None:
        """Open the next generation, as after a loss."""
        with self.changed:
            self._regenerate()

    def direct(self, directive: messages.Directive) -> None:
        """Tell agents something at their next heartbeat."""
        with self.changed:
            self.known.directive = directive

    def put(self, key: str, data: bytes) -> str:
        """Store an object; return its SHA-256."""
        self.known.objects[key] = data
        return hashlib.sha256(data).hexdigest()

    def bytes_url(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{self.url}{BYTES}{key}?signature=x"

    def next_attempt(self) -> None:
        """Begin the next attempt, as the reconciler does after a suspension."""
        with self.changed:
            known = self.known
            known.attempt, known.generation = known.attempt + 1, 1
            known.state, known.plan, known.directive = "forming", None, "continue"
            known.joined.clear()

    def _serve(self, request: loopback.Request) -> loopback.Response:
        if request.token != self.token and not request.path.startswith(BYTES):
            return 401, b'{"detail": "wrong token"}'
        status, answer = self.answer(request.method, request.path, request.body)
        if isinstance(answer, pydantic.BaseModel):
            return status, answer.model_dump_json().encode()
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Return status and answer of a request: JSON, a message, or bytes."""
        if path.startswith(BYTES):
            return self._bytes(method, path.removeprefix(BYTES), body)
        if path.startswith(f"{API}/bundles/"):
            return 200, self.known.bundles[path.rpartition("/")[2]]
        name = path.removeprefix(f"{API}/trials/{self.trial_uid}/")
        with self.changed:
            try:
                return self._routes(name, body)
            except pydantic.ValidationError as error:
                self.known.refused.append(str(error))
                return 422, {"detail": str(error)}
            finally:
                self.changed.notify_all()

    def _routes(self, name: str, body: bytes) -> Answer:
        if name == "dataset":
            access = self.known.access
            return (404, {"detail": "no such dataset"}) if access is None else (200, access)
        routes: dict[str, Callable[[bytes], Answer]] = {
            "join": self._join,
            "heartbeat": self._heartbeat,
            "exits": self._exits,
            "metrics": self._metrics,
            "logs": self._logs,
            "checkpoints/urls": self._checkpoint_urls,
            "checkpoints": self._commit,
            "artifacts/urls": self._artifact_urls,
        }
        return routes[name](body)

    def _join(self, body: bytes) -> Answer:
        message = messages.Join.model_validate_json(body)
        known = self.known
        if message.attempt < known.attempt:
            return self._stale("fenced")
        if known.state == "forming":
            known.joined[(message.role, message.index)] = message
            if len(known.joined) == sum(message.members.values()):
                self._form()
        deadline = time.monotonic() + JOIN_WAIT_S
        while known.state == "forming" and (left := deadline - time.monotonic()) > 0:
            self.changed.notify_all()
            self.changed.wait(left)
        over = known.state in ("succeeded", "failed", "stopped")
        return 200, messages.JoinAnswer(
            state=known.state,
            generation=known.generation,
            directive="stop" if over else "continue",
            plan=known.plan if known.state == "running" else None,
        )

    def _form(self) -> None:
        known = self.known
        slots: list[messages.RankSlot] = []
        for (role, index), joined in sorted(known.joined.items(), key=_order):
            for local in range(joined.procs):
                slots.append(
                    messages.RankSlot(rank=len(slots), role=role, index=index, local_rank=local)
                )
        # As in the real one: parameter servers follow, and are where the workers meet.
        first = known.joined.get(("ps", 0)) or known.joined[(slots[0].role, slots[0].index)]
        known.plan = messages.GenerationPlan(
            attempt=known.attempt,
            generation=known.generation,
            world_size=sum(slot.role != "ps" for slot in slots),
            ranks=slots,
            master_host=first.host,
            master_port=first.port,
            resume=self._resume_point(),
            checkpoint_prefix=names.checkpoint_root(
                self.trial_uid, attempt=known.attempt, generation=known.generation
            ),
            agents=[
                messages.AgentPlace(role=role, index=index, host=joined.host, port=joined.port)
                for (role, index), joined in sorted(known.joined.items())
            ],
        )
        known.plans.append(known.plan)
        known.state = "running"
        self.changed.notify_all()

    def _resume_point(self) -> messages.ResumePoint | None:
        if not self.known.commits:
            return None
        newest = self.known.commits[-1]
        return messages.ResumePoint(
            key=f"{newest.prefix}/manifest.json",
            step=newest.manifest.step,
            manifest_url=self.bytes_url(f"{newest.prefix}/manifest.json"),
            urls={
                file.path: self.bytes_url(f"{newest.prefix}/{file.path}")
                for file in newest.manifest.files
            },
        )

    def _heartbeat(self, body: bytes) -> Answer:
        message = messages.Heartbeat.model_validate_json(body)
        stale = self._behind(message)
        if stale is not None:
            return stale
        self.known.beats.append(message)
        return 200, self._advice()

    def _exits(self, body: bytes) -> Answer:
        message = messages.RankExit.model_validate_json(body)
        known = self.known
        known.exits.append(message)
        if message.generation < known.generation:
            return 200, messages.HeartbeatAnswer(
                directive="regenerate", state=known.state, generation=known.generation
            )
        place = (known.attempt, known.generation)
        ends = {end.rank: end for end in known.exits if (end.attempt, end.generation) == place}
        codes = [end.exit_code for end in ends.values()]
        workers = [end.exit_code for end in ends.values() if end.role != "ps"]
        everyone = known.plan is not None and len(codes) == len(known.plan.ranks)
        if known.plan is not None and workers == [0] * known.plan.world_size:
            known.state = "succeeded"
        elif 75 in codes or known.directive in ("stop", "suspend"):
            known.state = "stopped" if everyone else known.state
        elif any(codes):
            self._settle(message)
        return 200, self._advice()

    def _settle(self, end: messages.RankExit) -> None:
        own = end.reason in ("UserError", "InvalidSpec", "Diverged")
        started = any(report.step >= 0 for beat in self.known.beats for report in beat.ranks)
        if end.reason == "Diverged" or (own and not started):
            self.known.state = "failed"
        else:
            self._regenerate()

    def _regenerate(self) -> None:
        known = self.known
        known.generation += 1
        known.state, known.plan = "forming", None
        known.joined.clear()

    def _metrics(self, body: bytes) -> Answer:
        message = messages.MetricBatch.model_validate_json(body)
        stored = self.known.metrics.setdefault(_stream(message), {})
        for point in message.points:
            stored.setdefault(point.seq, point)
        return 200, messages.Ack(seq=_contiguous(list(stored)))

    def _logs(self, body: bytes) -> Answer:
        message = messages.LogBatch.model_validate_json(body)
        stored = self.known.logs.setdefault(_stream(message), {})
        for line in message.lines:
            stored.setdefault(line.seq, line)
        return 200, messages.Ack(seq=_contiguous(list(stored)))

    def _checkpoint_urls(self, body: bytes) -> Answer:
        message = messages.UrlRequest.model_validate_json(body)
        stale = self._behind(message, saves=True)
        prefix = names.checkpoint_prefix(
            self.trial_uid,
            attempt=message.attempt,
            generation=message.generation,
            step=message.step,
        )
        return stale or self._urls(prefix, message.files)

    def _commit(self, body: bytes) -> Answer:
        message = messages.CheckpointCommit.model_validate_json(body)
        stale = self._behind(message, saves=True)
        if stale is not None:
            return stale
        for file in message.manifest.files:
            data = self.known.objects.get(f"{message.prefix}/{file.path}", b"")
            if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
                return 422, {"detail": f"{file.path} is not as the manifest says"}
        self.known.commits.append(message)
        return 200, {"key": f"{message.prefix}/manifest.json", "step": message.manifest.step}

    def _artifact_urls(self, body: bytes) -> Answer:
        return self._urls(names.artifact_prefix(self.trial_uid), json.loads(body)["files"])

    def _urls(self, prefix: str, files: list[str]) -> Answer:
        urls = {name: self.bytes_url(f"{prefix}/{name}") for name in files}
        return 200, messages.UrlAnswer(prefix=prefix, urls=urls)

    def _behind(self, message: messages.Envelope, *, saves: bool = False) -> Answer | None:
        known = self.known
        if message.attempt < known.attempt:
            return self._stale("fenced")
        oldest = known.generation - (saves and known.state == "forming")
        return self._stale("regenerate") if message.generation < oldest else None

    def _stale(self, directive: str) -> Answer:
        known = self.known
        members = {"attempt": known.attempt, "generation": known.generation, "plan": None}
        return 409, {"directive": directive, "state": known.state, **members}

    def _advice(self) -> messages.HeartbeatAnswer:
        known = self.known
        over = known.state in ("succeeded", "failed", "stopped")
        return messages.HeartbeatAnswer(
            directive="stop" if over else known.directive,
            state=known.state,
            generation=known.generation,
        )

    def _bytes(self, method: str, key: str, body: bytes) -> Answer:
        if method == "PUT":
            with self.changed:
                self.known.objects[key] = body
            return 201, b""
        data = self.known.objects.get(key)
        return (200, data) if data is not None else (404, {"detail": f"no object {key}"})


def _stream(message: messages.MetricBatch | messages.LogBatch) -> Stream:
    return message.attempt, message.generation, message.rank


def _order(member: tuple[tuple[str, int], messages.Join]) -> tuple[bool, str, int]:
    (role, index), _ = member
    return role == "ps", role, index


def _contiguous(seqs: list[int]) -> int:
    last = -1
    for seq in sorted(seqs):
        if seq != last + 1:
            break
        last = seq
    return last
