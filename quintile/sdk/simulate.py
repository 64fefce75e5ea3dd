"""A scripted annotator over the public API: answers a labeling job from known truth.

It behaves as a person's browser does: leases tasks, answers them, sends an answer again until it is
acknowledged. What it answers depends on (seed, item, annotator) alone, so runs can be repeated.
Several may work on one job at once, also in several processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import hashlib
import io
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from quintile.core import errors, tasks
from quintile.sdk import following

if TYPE_CHECKING:
    from quintile.sdk.client import AsyncClient

T = TypeVar("T")

BATCH: Final = 25
LONG_POLL_S: Final = 20.0
PAUSE_S: Final = 0.2
LEASE_WORK_S: Final = 60.0
RELEASE_S: Final = 3.0


@dataclass(frozen=True)
class Annotator:
    """Who answers, and how well.

    Attributes:
        truth: Label by item name or item id.
        name: Goes into the noise and the ids of answers.
        noise: Share of wrong answers.
        seed: Of the noise.
        seconds: How long one answer takes.
        patience_s: How long to go on while the server is away.
    """

    truth: Mapping[str, str] = field(repr=False)
    name: str = "simulated"
    noise: float = 0.0
    seed: int = 0
    seconds: float = 0.0
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise <= 1.0:
            raise errors.InvalidSpec(
                f"noise is {self.noise}; expected a share from 0 to 1, as 0.02.", field="noise"
            )
        if not 0.0 <= self.seconds <= LEASE_WORK_S:
            raise errors.InvalidSpec(
                f"seconds is {self.seconds}; expected 0 to {LEASE_WORK_S:g}.", field="seconds"
            )


@dataclass(frozen=True)
class Tally:
    """What one annotator did so far; ``waiting`` says why there is nothing to do."""

    answered: int = 0
    wrong: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    ready: int = 0
    state: str = ""
    waiting: str = ""


OnProgress = Callable[[Tally], None]


def read_truth(path: Path) -> dict[str, str]:
    """Return label by name (or item id) from a CSV file with the columns name or item_id, label.

    Raises:
        InvalidSpec: It cannot be read, or a column is missing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidSpec(
            f"The table of true labels {str(path)!r} cannot be read: "
            f"{getattr(error, 'strerror', None) or error}.",
            hint="Give a CSV file in UTF-8 with the columns name,label.",
            field="truth",
        ) from error
    reader = csv.DictReader(io.StringIO(text))
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    key = next((name for name in ("item_id", "name") if name in columns), None)
    if key is None or "label" not in columns:
        raise errors.InvalidSpec(
            f"{path} has the columns {', '.join(columns) or 'none'}; expected name (or item_id) "
            "and label.",
            hint="Begin it with a header row: name,label",
            field="truth",
        )
    return {row[key].strip(): row["label"].strip() for row in reader if row[key] and row["label"]}


def decide(annotator: Annotator, task: tasks.Task, classes: Sequence[str]) -> tuple[str, bool]:
    """Return the label that is answered, and whether it is wrong on purpose.

    Raises:
        InvalidSpec: The truth says nothing about the item.
    """
    true = annotator.truth.get(task.item_id, annotator.truth.get(task.name))
    if true is None:
        raise errors.InvalidSpec(
            f"The table of true labels has no row for item {task.name!r} ({task.item_id}).",
            hint="Give a table with a row for every item of the dataset.",
            field="truth",
        )
    digest = hashlib.sha256(f"{annotator.seed}\0{task.item_id}\0{annotator.name}".encode()).digest()
    others = [name for name in classes if name != true]
    if int.from_bytes(digest[:8], "big") / 2.0**64 >= annotator.noise or not others:
        return true, False
    return others[int.from_bytes(digest[8:16], "big") % len(others)], True


def answer(
    annotator: Annotator, task: tasks.Task, classes: Sequence[str], *, seconds: float
) -> tuple[tasks.Answer, bool]:
    """Return the answer to a task, and whether it is wrong on purpose. Equal ids when repeated."""
    label, wrong = decide(annotator, task, classes)
    key = f"{task.item_id}\0{annotator.name}\0{task.slot_id}"
    known = label in classes
    payload = tasks.Payload(
        labels=[list(classes).index(label)] if known else [],
        verdict="answer" if known else "other",
    )
    made = tasks.Answer(
        client_id=hashlib.sha256(key.encode()).hexdigest()[:32],
        slot_id=task.slot_id,
        lease=task.lease,
        item_id=task.item_id,
        base_revision=task.base_revision,
        payload=payload,
        seconds=round(seconds, 3),
        via="simulate",
    )
    return made, wrong


async def run(
    client: AsyncClient,
    project: str,
    job: str,
    annotator: Annotator,
    *,
    on_progress: OnProgress | None = None,
) -> Tally:
    """Answer tasks until the job has finished.

    Raises:
        InvalidSpec: The truth lacks an item, or the job refused an answer.
        RunFailed: The job failed.
        Unavailable: The server was away for longer than the annotator's patience.
    """
    worker = _Worker(client, project, job, annotator, on_progress or (lambda _tally: None))
    try:
        return await worker.run()
    finally:
        await worker.release()


class _Worker:
    """The loop of one annotator, with what is leased and what was done."""

    def __init__(
        self,
        client: AsyncClient,
        project: str,
        job: str,
        annotator: Annotator,
        tell: OnProgress,
    ) -> None:
        self._client = client
        self._place = (project, job)
        self._annotator = annotator
        self._tell = tell
        self._leased: list[tasks.Task] = []
        self._classes: tuple[str, ...] = ()
        self._tally = Tally()
        # Two processes with one name must not take each other's leases.
        self._name = f"{annotator.name[:40]}-{os.getpid()}-{id(self):x}"[:64]

    async def run(self) -> Tally:
        document = await self._steadily(lambda: self._client.labeling.get(*self._place))
        self._classes = tuple(document.spec.labels)
        while True:
            begun_s = time.monotonic()
            batch = await self._steadily(self._next)
            self._leased = list(batch.tasks)
            self._note(ready=batch.ready, state=batch.state, waiting=batch.waiting)
            if batch.tasks:
                await self._answer_all()
            elif batch.waiting == "Finished":
                return self._tally
            else:
                await self._check_job()
                await asyncio.sleep(max(0.0, PAUSE_S - (time.monotonic() - begun_s)))

    async def release(self) -> None:
        """Give back what is leased, so that others need not wait for it to expire."""
        left = [task.lease for task in self._leased]
        if left:
            wanted = tasks.LeaseRenewal(release=left)
            with contextlib.suppress(errors.QuintileError, TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    await self._client.labeling.renew(*self._place, wanted)

    async def _next(self) -> tasks.TaskBatch:
        seconds = self._annotator.seconds
        count = BATCH if seconds <= 0 else max(1, min(BATCH, int(LEASE_WORK_S / seconds)))
        # Nothing is held here: what the server thinks we hold went with an answer that got lost.
        wanted = tasks.NextRequest(count=count, client=self._name, fresh=True)
        return await self._client.labeling.next_tasks(*self._place, wanted, wait_s=LONG_POLL_S)

    async def _answer_all(self) -> None:
        """Answer what is leased: all at once, or one by one when an answer takes time."""
        size = len(self._leased) if self._annotator.seconds <= 0 else 1
        while self._leased:
            begun_s = time.monotonic()
            await asyncio.sleep(self._annotator.seconds)
            chosen = self._leased[:size]
            spent_s = (time.monotonic() - begun_s) / len(chosen)
            made = [
                answer(self._annotator, task, self._classes, seconds=spent_s) for task in chosen
            ]
            await self._send([one for one, _wrong in made])
            del self._leased[:size]
            self._note(
                answered=self._tally.answered + len(made),
                wrong=self._tally.wrong + sum(wrong for _one, wrong in made),
            )

    async def _send(self, answers: Sequence[tasks.Answer]) -> None:
        results = await self._steadily(
            lambda: self._client.labeling.annotate(*self._place, answers)
        )
        outcomes = dict(self._tally.outcomes)
        for result in results:
            outcomes[result.outcome] = outcomes.get(result.outcome, 0) + 1
        self._note(outcomes=outcomes)
        refused = next((one for one in results if one.outcome == "refused"), None)
        if refused is not None:
            raise errors.InvalidSpec(f"The job refused an answer: {refused.problem}")

    async def _check_job(self) -> None:
        job = await self._steadily(lambda: self._client.labeling.get(*self._place))
        following.refuse_stuck(job)

    async def _steadily(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call that may be repeated, however often the server restarts."""
        begun_s = time.monotonic()
        while True:
            try:
                return await call()
            except errors.Unavailable as error:
                if time.monotonic() - begun_s > self._annotator.patience_s:
                    raise
                self._note(waiting="ServerAway")
                await asyncio.sleep(max(PAUSE_S, error.retry_after_s))

    def _note(self, **changes: Any) -> None:
        self._tally = replace(self._tally, **changes)
        self._tell(self._tally)
