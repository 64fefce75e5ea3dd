"""``LabelingJob``: people label a few images, the platform the rest, with a certificate."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from quintile.core import errors
from quintile.sdk import blocking, data

if TYPE_CHECKING:
    from quintile.core import labeling_job, tasks
    from quintile.sdk import labeling_calls, simulate, views

T = TypeVar("T")
Data = str | data.DatasetVersion | data.Dataset


@dataclass(frozen=True)
class LabelingConfig:
    """What a job promises and what people may be asked.

    Attributes:
        error: Share of rows that may be wrong.
        confidence: How sure that is.
        guarantee: ``dataset`` = wrong among all rows, ``precision`` = among the machine's.
        mode: ``crossfit`` or ``strict``.
        random: Size of the random stratum; None = the smallest that can certify.
        strategy: How items are chosen.
        batch: Items per round, a count or a percentage.
        max_human_labels: Decisions of people in all, a count or a percentage.
        max_chosen: Chosen items at most.
        max_rounds: Rounds at most.
        uncovered: Rows without a certificate: ``people``, ``leave`` or ``autoUncertified``.
        overlap: Share of items that two people answer.
        lookahead: 1 = people go on while a round trains, 0 = they wait (replayable).
        seed: Of every draw.
    """

    error: float = 0.02
    confidence: float = 0.95
    guarantee: Literal["dataset", "precision"] = "dataset"
    mode: Literal["crossfit", "strict"] = "crossfit"
    random: int | str | None = None
    strategy: str = "auto"
    batch: int | str = "5%"
    max_human_labels: int | str = "20%"
    max_chosen: int | str | None = None
    max_rounds: int = 8
    uncovered: Literal["people", "leave", "autoUncertified"] = "people"
    overlap: int | str = "0%"
    lookahead: Literal[0, 1] = 1
    seed: int = 0


def spec_of(
    dataset: Mapping[str, Any], labels: Sequence[str], config: LabelingConfig
) -> dict[str, Any]:
    """Return the spec of a LabelingJob as JSON. Pure."""
    target = {
        "error": f"{config.error:g}",
        "confidence": f"{config.confidence:g}",
        "guarantee": config.guarantee,
        "mode": config.mode,
    }
    budget = {"maxHumanLabels": str(config.max_human_labels), "maxRounds": config.max_rounds}
    if config.random is not None:
        target["random"] = str(config.random)
    if config.max_chosen is not None:
        budget["maxChosen"] = str(config.max_chosen)
    return {
        "dataset": {"name": dataset["name"], "version": dataset["version"]},
        "labels": list(labels),
        "target": target,
        "strategy": {
            "name": config.strategy,
            "batch": str(config.batch),
            "lookahead": config.lookahead,
        },
        "budget": budget,
        "finish": {"uncovered": config.uncovered},
        "review": {"overlap": str(config.overlap)},
        "seed": config.seed,
    }


class LabelingJob:
    """A labeling job on the server."""

    def __init__(self, session: blocking.Session, name: str) -> None:
        self._session = session
        self.name = name

    def __repr__(self) -> str:
        return f"<LabelingJob {self.name}>"

    @classmethod
    def create(
        cls,
        name: str,
        *,
        dataset_version: Data,
        labels: Sequence[str] = (),
        config: LabelingConfig | None = None,
    ) -> LabelingJob:
        """Make a job.

        Args:
            name: Unique in the project: small letters, digits and dashes.
            dataset_version: What to label, as ``"digits:1"`` or what ``Dataset`` gives.
            labels: Class names; empty = the classes of the dataset version.
            config: Promise and budget.

        Raises:
            InvalidSpec: Something cannot work: the budget is below what a certificate needs, ...
            Conflict: The name is taken.
        """
        session = blocking.current()
        reference = data.reference(session, dataset_version) or {}
        names = list(labels) or _classes(session, reference)
        spec = spec_of(reference, names, config or LabelingConfig())
        document = {"name": name, "spec": spec}
        session.run(session.client.labeling.create(session.project, document))
        return cls(session, name)

    @classmethod
    def get(cls, name: str) -> LabelingJob:
        """Return a job that exists."""
        session = blocking.current()
        session.run(session.client.labeling.get(session.project, name))
        return cls(session, name)

    def status(self) -> labeling_job.LabelingJobStatus:
        """Return the state of now."""
        from quintile.core import labeling_job

        found = self._session.run(self._calls.get(self._session.project, self.name))
        return found.status or labeling_job.LabelingJobStatus()

    def stats(self) -> tasks.JobStats:
        """Return numbers: labels of people, by class and author."""
        return self._run(self._calls.stats)

    def wait(self, timeout_s: float | None = None, *, show_progress: bool = True) -> LabelingJob:
        """Block until the job has ended and its labels are a dataset version.

        Raises:
            RunFailed: It failed.
            TimeoutError: It took longer than ``timeout_s``.
        """
        from quintile.sdk import following, progress

        with progress.Progress(self.name, shown=show_progress) as shown:

            def show(job: labeling_job.LabelingJob) -> None:
                if job.status is not None:
                    counts = job.status.counts
                    shown.update(counts.human + counts.auto, counts.items, job.status.phase)

            self._session.run(
                following.labeling_end(
                    lambda: self._calls.get(self._session.project, self.name),
                    name=self.name,
                    timeout_s=timeout_s,
                    on_poll=show,
                )
            )
        return self

    def certificate(self) -> tasks.CertificateView:
        """Return the certificate.

        Raises:
            NotFound: There is none yet.
        """
        return self._run(self._calls.certificate)

    def rounds(self) -> Sequence[tasks.RoundView]:
        """Return the rounds, oldest first."""
        return self._run(self._calls.rounds)

    def curve(self) -> Sequence[views.CurvePoint]:
        """Return people's work after each round."""
        return self._run(self._calls.curve)

    def labels(self, *, source: str = "", label: str = "") -> Sequence[tasks.JobItemView]:
        """Return the items with the label that counts now, filtered by source or label."""
        calls, project = self._calls, self._session.project
        found = self._session.collect(calls.items(project, self.name, source=source, label=label))
        return list(found)

    def export(self, path: str | Path, *, uncertified: bool = False) -> Path:
        """Write item_id, name, label, source, confidence as CSV; return the path."""
        text = self._session.run(
            self._calls.labels_csv(self._session.project, self.name, uncertified=uncertified)
        )
        Path(path).write_bytes(text)
        return Path(path)

    def output(self) -> data.DatasetVersion:
        """Return the dataset version that the finished job made.

        Raises:
            NotFound: It has not made one yet.
        """
        job = self._session.run(self._calls.get(self._session.project, self.name))
        number = job.status.output_version if job.status is not None else None
        if number is None:
            raise errors.NotFound(
                f"Labeling job {self.name!r} has made no dataset version yet.", hint="Use .wait()."
            )
        calls, project = self._session.client.datasets, self._session.project
        view = self._session.run(calls.version(project, job.spec.dataset.name, number))
        return data.DatasetVersion(self._session, view)

    def why(self, item_id: str) -> tasks.WhyView:
        """Return why an item has its label, oldest link first."""
        return self._session.run(self._calls.why(self._session.project, self.name, item_id))

    def simulate(
        self, truth: str | Path | Mapping[str, str], *, noise: float = 0.0, seed: int = 0
    ) -> simulate.Tally:
        """Answer as people would who know the truth, until the job has ended.

        Args:
            truth: Label by item name or id, or a CSV file with the columns name,label.
            noise: Share of answers that are wrong.
            seed: Of the noise.
        """
        from quintile.sdk import simulate

        table = truth if isinstance(truth, Mapping) else simulate.read_truth(Path(truth))
        annotator = simulate.Annotator(truth=dict(table), noise=noise, seed=seed)
        session = self._session
        return session.run(simulate.run(session.client, session.project, self.name, annotator))

    def suspend(self) -> LabelingJob:
        """Pause: nobody gets tasks until ``resume``."""
        self._run(self._calls.suspend)
        return self

    def resume(self) -> LabelingJob:
        """Go on."""
        self._run(self._calls.resume)
        return self

    def delete(self) -> None:
        """Delete the job with its answers; dataset versions stay."""
        self._run(self._calls.delete)

    @property
    def _calls(self) -> labeling_calls.LabelingCalls:
        return self._session.client.labeling

    def _run(self, call: Callable[[str, str], Coroutine[Any, Any, T]]) -> T:
        return self._session.run(call(self._session.project, self.name))


def _classes(session: blocking.Session, reference: Mapping[str, Any]) -> list[str]:
    calls = session.client.datasets
    view = session.run(calls.version(session.project, reference["name"], reference["version"]))
    if not view.classes:
        raise errors.InvalidSpec(
            f"Dataset {view.dataset!r} version {view.version} has no classes, so the job has no "
            "labels to ask for.",
            hint="Name them: labels=[...], or --labels a,b on the command line.",
            field="spec.labels",
        )
    return [one.name for one in view.classes]
