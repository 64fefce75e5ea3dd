"""Calls about runs: experiments, trials, what trials report. Groups of ``AsyncClient``."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from quintile.core import errors, experiment, meta
from quintile.sdk import checking, http, paths, sse, views
from quintile.sdk.http import Call

RECONNECT_S = 0.5


class ExperimentCalls:
    """Experiments of a project, and code bundles."""

    def __init__(self, link: http.Http) -> None:
        self._link = link

    async def create(self, project: str, document: meta.Document) -> experiment.Experiment:
        """Make an Experiment from a whole document or from ``{name, spec}``."""
        path = paths.project(project, "experiments")
        call = Call("POST", path, json=document, repeat="keyed")
        return await self._link.model(call, experiment.Experiment)

    def list(self, project: str) -> AsyncIterator[experiment.Experiment]:
        """Yield the experiments by name."""
        call = Call("GET", paths.project(project, "experiments"))
        return self._link.pages(call, experiment.Experiment)

    async def get(self, project: str, name: str) -> experiment.Experiment:
        """Return one experiment."""
        call = Call("GET", paths.project(project, "experiments", name))
        return await self._link.model(call, experiment.Experiment)

    async def delete(self, project: str, name: str) -> None:
        """Delete an experiment with its trials."""
        await self._link.send(Call("DELETE", paths.project(project, "experiments", name)))

    async def stop(
        self, project: str, name: str, *, suspend: bool = False
    ) -> experiment.Experiment:
        """Stop an experiment: its ranks save a checkpoint and end; ``suspend`` can go on later."""
        path = paths.project(project, "experiments", name, "stop")
        return await self._link.model(
            Call("POST", path, json={"suspend": suspend}), experiment.Experiment
        )

    async def resume(
        self, project: str, name: str, *, start: Literal["newest", "best"] = "newest"
    ) -> experiment.Experiment:
        """Go on with a suspended experiment from its newest or its best checkpoint."""
        path = paths.project(project, "experiments", name, "resume")
        return await self._link.model(
            Call("POST", path, json={"start": start}), experiment.Experiment
        )

    async def scale(self, project: str, name: str, *, workers: int) -> experiment.Experiment:
        """Give an elastic experiment another number of workers, at a checkpoint."""
        path = paths.project(project, "experiments", name, "scale")
        return await self._link.model(
            Call("POST", path, json={"workers": workers}), experiment.Experiment
        )

    async def tensorboard(self, project: str, name: str) -> str:
        """Start an experiment's TensorBoard; return a link that opens it once, for ten minutes."""
        path = paths.project(project, "experiments", name, "tensorboard")
        found = await self._link.json(Call("POST", path))
        return str(found["url"])

    async def plan(self, project: str, name: str, spec: meta.Document) -> views.Plan:
        """Return what would run for a spec; nothing is made."""
        path = paths.project(project, "experiments", f"{name}:plan")
        return await self._link.model(Call("POST", path, json={"spec": spec}), views.Plan)

    async def events(
        self, project: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[views.Event]:
        """Return the newest events of a project or of one resource, newest first."""
        query = {"kind": kind, "name": name, "limit": limit}
        found = await self._link.json(Call("GET", paths.project(project, "events"), params=query))
        return [http.read_as(views.Event, item, what="events") for item in found["items"]]

    async def put_bundle(self, data: bytes) -> str:
        """Store a code bundle unless it is there; return its SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        path = paths.join("bundles", digest)
        try:
            await self._link.send(Call("HEAD", path))
        except errors.NotFound:
            headers = {"Content-Type": "application/zip"}
            await self._link.send(Call("PUT", path, content=data, headers=headers))
        return digest


class TrialCalls:
    """Trials ("jobs") of a project: state, metrics, logs, checkpoints, artifacts."""

    def __init__(self, link: http.Http) -> None:
        self._link = link

    def list(self, project: str, *, of: str = "") -> AsyncIterator[experiment.Trial]:
        """Yield the trials by name, those of experiment ``of`` if given."""
        query = {"experiment": of or None}
        call = Call("GET", paths.project(project, "trials"), params=query)
        return self._link.pages(call, experiment.Trial)

    async def get(self, project: str, name: str) -> experiment.Trial:
        """Return one trial."""
        return await self._link.model(Call("GET", _trial(project, name)), experiment.Trial)

    async def metrics(
        self, project: str, name: str, *, names: Sequence[str] = (), max_points: int = 1000
    ) -> views.Metrics:
        """Return metric series of rank 0 along the committed lineage, down-sampled."""
        query = {"names": ",".join(names), "max_points": max_points}
        call = Call("GET", f"{_trial(project, name)}/metrics", params=query)
        return await self._link.model(call, views.Metrics)

    def logs(
        self, project: str, name: str, *, rank: int | None = None, tail: int | None = None
    ) -> AsyncIterator[views.LogLine]:
        """Yield the lines of now, of one rank (None = all), the last ``tail`` ones."""
        query = {"rank": rank, "tail": tail}
        call = Call("GET", f"{_trial(project, name)}/logs", params=query)
        return self._link.lines(call, views.LogLine)

    async def follow(
        self, project: str, name: str, *, rank: int | None = None, tail: int | None = None
    ) -> AsyncIterator[views.LogLine]:
        """Yield lines as they come until the trial has ended.

        A broken connection is taken up again after the last line that arrived: no gap, no repeat.
        """
        last_id = ""
        while True:
            try:
                async for event in self._events(
                    project, name, last_id=last_id, rank=rank, tail=tail
                ):
                    if event.kind == "end":
                        return
                    last_id = event.id
                    yield views.LogLine.model_validate_json(event.data)
            except http.Broken:
                pass  # the server restarts; the next request has its own patience
            await asyncio.sleep(RECONNECT_S)

    async def checkpoints(self, project: str, name: str) -> Sequence[views.Checkpoint]:
        """Return the committed checkpoints, newest first."""
        return await self._all(f"{_trial(project, name)}/checkpoints", views.Checkpoint)

    async def artifacts(self, project: str, name: str) -> Sequence[views.Artifact]:
        """Return the files that the trial published, by name."""
        return await self._all(f"{_trial(project, name)}/artifacts", views.Artifact)

    async def artifact(self, project: str, name: str, file: str) -> bytes:
        """Return one published file."""
        path = f"{_trial(project, name)}{paths.join('artifacts', file)}"
        return (await self._link.send(Call("GET", path))).content

    async def _events(
        self, project: str, name: str, *, last_id: str, rank: int | None, tail: int | None
    ) -> AsyncIterator[sse.Event]:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        query = {"follow": "true", "rank": rank, "tail": None if last_id else tail}
        call = Call("GET", f"{_trial(project, name)}/logs", params=query, headers=headers)
        async with self._link.stream(call) as response:
            async for event in sse.events(response.aiter_lines()):
                yield event

    async def _all(self, path: str, kind: type[http.ModelT]) -> Sequence[http.ModelT]:
        found = await self._link.json(Call("GET", path))
        return [http.read_as(kind, item, what=path) for item in found["items"]]


def check(spec: meta.Document) -> experiment.ExperimentSpec:
    """Return the spec of an Experiment as its model.

    Raises:
        InvalidSpec: Names the first offending field.
    """
    return checking.parse(experiment.ExperimentSpec, spec, what="The Experiment", at="spec")


def _trial(project: str, name: str) -> str:
    return paths.project(project, "trials", name)
