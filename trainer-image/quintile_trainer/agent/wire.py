"""The agent's messages as plain JSON. Pure; held against ``quintile.core.messages`` by a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Envelope:
    """Fencing fields of one message."""

    attempt: int
    generation: int
    boot_id: str
    seq: int
    role: str
    index: int

    def json(self) -> Json:
        """Return the fields that every message begins with."""
        return {
            "attempt": self.attempt,
            "generation": self.generation,
            "boot_id": self.boot_id,
            "seq": self.seq,
            "role": self.role,
            "index": self.index,
        }


@dataclass(frozen=True)
class Place:
    """How others reach the ranks of this replica, and how many it runs."""

    members: Mapping[str, int]
    max_restarts: int
    procs: int
    host: str
    port: int
    interface: str = ""
    progress_timeout_s: float = 0.0
    start_timeout_s: float = 0.0
    least: int = 0


@dataclass(frozen=True)
class RankView:
    """One rank as the agent sees it; see ``messages.RankReport``."""

    rank: int
    pid: int
    state: str
    step: int
    total_steps: int
    still_s: float = 0.0
    witness: str = ""
    where: str = ""
    waits: bool = False


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended, what a failure rule says about that, and the steps that it told last."""

    rank: int
    exit_code: int
    signal: int
    reason: str
    first_error: str
    action: str = ""
    step: int = -1
    total_steps: int = 0


def join(envelope: Envelope, place: Place) -> Json:
    """Return ``messages.Join``."""
    return {
        **envelope.json(),
        "members": dict(place.members),
        "max_restarts": place.max_restarts,
        "progress_timeout_s": place.progress_timeout_s,
        "start_timeout_s": place.start_timeout_s,
        "least": place.least,
        "procs": place.procs,
        "host": place.host,
        "interface": place.interface,
        "port": place.port,
    }


def heartbeat(envelope: Envelope, ranks: Sequence[RankView], *, leaving: bool = False) -> Json:
    """Return ``messages.Heartbeat``."""
    return {
        **envelope.json(),
        "leaving": leaving,
        "ranks": [
            {
                "rank": view.rank,
                "pid": view.pid,
                "state": view.state,
                "step": view.step,
                "total_steps": view.total_steps,
                "still_s": view.still_s,
                "witness": view.witness,
                "where": view.where[:256],
                "waits": view.waits,
            }
            for view in ranks
        ],
    }


def rank_exit(envelope: Envelope, end: RankEnd, *, leaving: bool = False) -> Json:
    """Return ``messages.RankExit``."""
    return {
        **envelope.json(),
        "leaving": leaving,
        "rank": end.rank,
        "exit_code": end.exit_code,
        "signal": end.signal,
        "reason": end.reason[:64],
        "first_error": end.first_error[:1024],
        "action": end.action,
        "step": end.step,
        "total_steps": end.total_steps,
    }


def metrics(envelope: Envelope, rank: int, records: Sequence[Json], first_seq: int) -> Json:
    """Return ``messages.MetricBatch`` of spooled records (step, time, values)."""
    points = [
        {
            "seq": first_seq + place,
            "step": record["step"],
            "time": record["time"],
            "values": record["values"],
        }
        for place, record in enumerate(records)
    ]
    return {**envelope.json(), "rank": rank, "points": points}


def logs(envelope: Envelope, rank: int, records: Sequence[Json], first_seq: int) -> Json:
    """Return ``messages.LogBatch`` of spooled records (time, line, stream)."""
    lines = [
        {
            "seq": first_seq + place,
            "time": record["time"],
            "line": record["line"],
            "stream": record["stream"],
        }
        for place, record in enumerate(records)
    ]
    return {**envelope.json(), "rank": rank, "lines": lines}


def url_request(envelope: Envelope, *, step: int, files: Sequence[str]) -> Json:
    """Return ``messages.UrlRequest``."""
    return {**envelope.json(), "step": step, "files": list(files)}


def artifact_request(envelope: Envelope, files: Sequence[str]) -> Json:
    """Return the body of ``artifacts/urls``."""
    return {**envelope.json(), "files": list(files)}


def commit(envelope: Envelope, *, prefix: str, manifest: Json) -> Json:
    """Return ``messages.CheckpointCommit``."""
    return {**envelope.json(), "prefix": prefix, "manifest": manifest}
