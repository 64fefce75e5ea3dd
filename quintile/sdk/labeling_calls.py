"""Calls about labeling jobs: tasks, answers, rounds, certificates. A group of ``AsyncClient``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from quintile.core import labeling_job, meta, tasks
from quintile.sdk import http, paths, views
from quintile.sdk.http import Call


class LabelingCalls:
    """Labeling jobs of a project."""

    def __init__(self, link: http.Http) -> None:
        self._link = link

    async def create(self, project: str, document: meta.Document) -> labeling_job.LabelingJob:
        """Make a job from a whole document or from ``{name, spec}``."""
        path = paths.project(project, "labeling-jobs")
        call = Call("POST", path, json=document, repeat="keyed")
        return await self._link.model(call, labeling_job.LabelingJob)

    def list(self, project: str) -> AsyncIterator[labeling_job.LabelingJob]:
        """Yield the jobs by name."""
        call = Call("GET", paths.project(project, "labeling-jobs"))
        return self._link.pages(call, labeling_job.LabelingJob)

    async def get(self, project: str, name: str) -> labeling_job.LabelingJob:
        """Return one job."""
        return await self._link.model(Call("GET", _job(project, name)), labeling_job.LabelingJob)

    async def delete(self, project: str, name: str) -> None:
        """Delete a job with its answers; dataset versions stay."""
        await self._link.send(Call("DELETE", _job(project, name)))

    async def suspend(self, project: str, name: str) -> labeling_job.LabelingJob:
        """Pause a job: nobody gets tasks until it is resumed."""
        call = Call("POST", _job(project, name, "suspend"))
        return await self._link.model(call, labeling_job.LabelingJob)

    async def resume(self, project: str, name: str) -> labeling_job.LabelingJob:
        """Go on with a paused job."""
        call = Call("POST", _job(project, name, "resume"))
        return await self._link.model(call, labeling_job.LabelingJob)

    async def patch(
        self, project: str, name: str, changes: Mapping[str, Any]
    ) -> labeling_job.LabelingJob:
        """Change the budget or append labels; nothing else of a job may change."""
        call = Call("PATCH", _job(project, name), json=dict(changes))
        return await self._link.model(call, labeling_job.LabelingJob)

    async def next_tasks(
        self, project: str, name: str, wanted: tasks.NextRequest, *, wait_s: float = 0.0
    ) -> tasks.TaskBatch:
        """Lease tasks; waits up to ``wait_s`` (<= 30) until there is one."""
        call = Call(
            "POST",
            _job(project, name, "tasks", "next"),
            params={"wait_s": f"{wait_s:g}"} if wait_s else {},
            json=wanted.model_dump(),
        )
        return await self._link.model(call, tasks.TaskBatch)

    async def renew(self, project: str, name: str, wanted: tasks.LeaseRenewal) -> tasks.LeaseAnswer:
        """Extend leases, or give some back."""
        call = Call("POST", _job(project, name, "tasks", "leases"), json=wanted.model_dump())
        return await self._link.model(call, tasks.LeaseAnswer)

    async def annotate(
        self, project: str, name: str, answers: Sequence[tasks.Answer]
    ) -> Sequence[tasks.AnswerResult]:
        """Send answers; each is acknowledged on its own. Idempotent by ``client_id``."""
        body = tasks.AnswerBatch(answers=list(answers)).model_dump()
        call = Call("POST", _job(project, name, "annotations"), json=body)
        return (await self._link.model(call, tasks.AnswerResults)).results

    async def undo(self, project: str, name: str, wanted: tasks.UndoRequest) -> tasks.AnswerResult:
        """Undo the newest revision of an item by its author. Idempotent by ``client_id``."""
        call = Call("POST", _job(project, name, "annotations", "undo"), json=wanted.model_dump())
        return await self._link.model(call, tasks.AnswerResult)

    async def stats(self, project: str, name: str) -> tasks.JobStats:
        """Return the numbers of a job."""
        return await self._link.model(Call("GET", _job(project, name, "stats")), tasks.JobStats)

    async def rounds(self, project: str, name: str) -> Sequence[tasks.RoundView]:
        """Return the rounds, oldest first."""
        return await self._all(_job(project, name, "rounds"), tasks.RoundView)

    async def curve(self, project: str, name: str) -> Sequence[views.CurvePoint]:
        """Return people's work after each round."""
        return await self._all(_job(project, name, "curve"), views.CurvePoint)

    async def certificate(self, project: str, name: str) -> tasks.CertificateView:
        """Return the certificate; NotFound while there is none."""
        call = Call("GET", _job(project, name, "certificate"))
        return await self._link.model(call, tasks.CertificateView)

    async def certificate_scores(self, project: str, name: str) -> bytes:
        """Return the scores behind the certificate (npz)."""
        path = _job(project, name, "certificate", "scores")
        return (await self._link.send(Call("GET", path))).content

    def items(
        self, project: str, name: str, *, source: str = "", label: str = ""
    ) -> AsyncIterator[tasks.JobItemView]:
        """Yield the items of a job with the label that counts now."""
        query = {"source": source or None, "label": label or None}
        call = Call("GET", _job(project, name, "items"), params=query)
        return self._link.pages(call, tasks.JobItemView)

    async def labels_csv(
        self, project: str, name: str, *, uncertified: bool = False, at_round: int | None = None
    ) -> bytes:
        """Return item_id, name, label, source, confidence as CSV.

        Args:
            project: The project.
            name: The job.
            uncertified: Rows without a label carry the machine's newest prediction.
            at_round: The labels that entered this round, and its predictions; None = of now.
        """
        query = {"uncertified": "true" if uncertified else None, "round": at_round}
        call = Call("GET", _job(project, name, "labels.csv"), params=query)
        return (await self._link.send(call)).content

    async def why(self, project: str, name: str, item_id: str) -> tasks.WhyView:
        """Return why an item has its label."""
        call = Call("GET", _job(project, name, "items", item_id, "why"))
        return await self._link.model(call, tasks.WhyView)

    async def _all(self, path: str, kind: type[http.ModelT]) -> Sequence[http.ModelT]:
        found = await self._link.json(Call("GET", path))
        entries = found["items"] if isinstance(found, dict) else found
        return [http.read_as(kind, item, what=path) for item in entries]


def _job(project: str, name: str, *segments: str) -> str:
    return paths.project(project, "labeling-jobs", name, *segments)
