"""The report of the demo: the figures as JSON, and the same as text for people."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """Rows right (labels of people and of the machine) at a share of labels of people."""

    human_label_fraction: float
    accuracy: float


@dataclass(frozen=True)
class ExperimentFigures:
    """One training run. ``eval_accuracy`` is measured on the truth of the held-out split."""

    name: str
    mode: str
    workers: int
    phase: str
    eval_accuracy: float | None
    images_per_second: float | None
    seconds: float


@dataclass(frozen=True)
class Report:
    """All figures; field names are the keys of ``demo-report.json``.

    ``auto_label_accuracy``: of the labels that the machine gave. ``true_error``: share of all
    exported rows that differ from the truth.
    """

    items: int
    human_labels: int
    human_label_fraction: float
    auto_label_accuracy: float
    target_error: float
    certified_error: float | None
    true_error: float
    certificate_mode: str
    curve: list[CurvePoint]
    label_seconds: float
    experiments: list[ExperimentFigures]
    setup_seconds: float
    total_seconds: float
    ui: str

    def json(self) -> str:
        """Return the JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def text(self) -> str:
        """Return the report for people."""
        return "\n".join((*self._labels(), "", *self._curve(), "", *self._runs(), "", self._time()))

    def _labels(self) -> tuple[str, ...]:
        certified = "none" if self.certified_error is None else f"{self.certified_error:.2%}"
        kept = self.certified_error is not None and (
            self.true_error <= self.certified_error <= self.target_error
        )
        return (
            f"Labels of {self.items:,} images",
            f"  people labelled   {self.human_labels:,} images, {self.human_label_fraction:.1%}",
            f"  machine labels    {self.auto_label_accuracy:.2%} right",
            f"  certified error   {certified} at most ({self.certificate_mode}), "
            f"target {self.target_error:.2%}",
            f"  true error        {self.true_error:.2%}, "
            f"{'within what was certified' if kept else 'NOT within what was certified'}",
        )

    def _curve(self) -> tuple[str, ...]:
        rows = tuple(
            f"  {point.human_label_fraction:>6.1%} labelled   {point.accuracy:.2%} of rows right"
            for point in self.curve
        )
        return ("Without a certificate, at fewer labels", *rows)

    def _runs(self) -> tuple[str, ...]:
        rows = tuple(_run_line(one) for one in self.experiments)
        return ("Training on the new labels, judged on 360 images that it never saw", *rows)

    def _time(self) -> str:
        return (
            f"{self.total_seconds:.0f} s in all: labels {self.label_seconds:.0f} s, runs "
            f"{sum(one.seconds for one in self.experiments):.0f} s"
            + (f"; setup before that {self.setup_seconds:.0f} s" if self.setup_seconds else "")
        )


def _run_line(run: ExperimentFigures) -> str:
    workers = f"{run.workers} worker{'s' if run.workers > 1 else ''}"
    if run.eval_accuracy is None:
        return f"  {run.name:<15} {run.mode}, {workers}: {run.phase}"
    speed = f", {run.images_per_second:,.0f} images/s" if run.images_per_second else ""
    return (
        f"  {run.name:<15} {run.mode}, {workers}: {run.phase}, accuracy {run.eval_accuracy:.2%}"
        f"{speed}, {run.seconds:.1f} s"
    )
