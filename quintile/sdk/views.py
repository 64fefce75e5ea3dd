"""Answers of the API that no other part shares, as the client reads them (snake_case)."""

from __future__ import annotations

from typing import Any

import pydantic


class View(pydantic.BaseModel):
    """Base: frozen; fields of a newer server are ignored."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class ServerVersion(View):
    """Version of the platform and of its REST interface."""

    version: str
    api: str = "v1"


class Project(View):
    """A project and the caller's role in it."""

    name: str
    role: str


class Token(View):
    """An API token; ``token`` is its text, only in the answer that made it."""

    id: str
    name: str
    scope: str
    created: float
    expires: float
    last_used: float | None = None
    token: str = ""


class Event(View):
    """Something that happened to a resource; equal ones are counted."""

    kind: str
    name: str
    type: str
    reason: str
    message: str
    count: int = 1
    first_time: float = 0.0
    last_time: float = 0.0


class Plan(View):
    """What would run, per trial."""

    plans: list[dict[str, Any]]


class Series(View):
    """One metric of a rank along the committed lineage."""

    name: str
    steps: list[int]
    times: list[float] = []
    values: list[float | None]
    generations: list[int] = []
    total: int = 0


class Metrics(View):
    """Metric series of a trial."""

    trial: str
    series: list[Series]


class LogLine(View):
    """One line of a rank; ``id`` is its place in the stream."""

    id: str
    attempt: int = 0
    generation: int = 0
    rank: int
    seq: int = 0
    time: float = 0.0
    stream: str = ""
    line: str


class Checkpoint(View):
    """One committed checkpoint."""

    key: str
    attempt: int
    generation: int
    step: int
    epoch: int = 0
    size_bytes: int = 0
    metrics: dict[str, float] = {}
    created: float = 0.0


class Artifact(View):
    """One file that a trial published."""

    name: str
    size: int
    attempt: int = 0
    generation: int = 0


class CurvePoint(View):
    """People's work after a round."""

    round: int
    step: str = ""
    human_labels: int
    human_label_fraction: float
    coverage: float | None = None
    coverage_low: float | None = None
    coverage_high: float | None = None
