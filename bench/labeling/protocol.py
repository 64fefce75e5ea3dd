"""A labeling job played in process: every round through ``quintile_trainer.rounds.compute``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pools import Pool

from quintile.core import tasks
from quintile.engine import certify, stratum
from quintile_trainer.rounds import compute

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """What people are asked: R at once, then chosen items batch by batch."""

    random: int
    chosen: int
    batch: int
    error: float = 0.02
    confidence: float = 0.95
    mode: str = "crossfit"
    guarantee: str = "dataset"
    strategy: str = "auto"


@dataclass
class Job:
    """One job in lockstep: people answer (``answers``), rounds learn.

    ``answers`` [N] is what people say, the truth unless noise is asked for.
    """

    pool: Pool
    plan: Plan
    seed: int
    answers: Ints
    labelled: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    number: int = 0
    history: list[float] = field(default_factory=list)
    forecasts: list[Mapping[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.zeros(0, dtype=np.int64)
        if self.plan.random:
            self.random = stratum.prefix(len(self.pool), seed=self.seed, size=self.plan.random)

    def play(self) -> compute.Outcome:
        """Return the outcome of ``finalise`` after all batches."""
        outcome = self.step("embed")
        self.labelled = np.sort(self.random)
        left = self.plan.chosen
        while left > 0:
            left -= self.answer(outcome, min(self.plan.batch, left))
            if left > 0:
                outcome = self.step("learn")
        return self.step("finalise")

    def answer(self, outcome: compute.Outcome, count: int) -> int:
        """Let people answer the first ``count`` items of an order; return how many there were."""
        rows = np.searchsorted(self.pool.item_ids, np.asarray(outcome.order[:count]))
        self.labelled = np.union1d(self.labelled, rows)
        return max(len(rows), 1)

    def step(self, step: str) -> compute.Outcome:
        """Run one round."""
        started = time.perf_counter()
        outcome = compute.STEPS[step](self._manifest(step), self.pool.item_ids, self.pool.features)
        self.seconds[step] = time.perf_counter() - started
        self.number += 1
        if step == "learn":
            self.history.append(float(outcome.report["labels_total"]))
            self.forecasts.append(outcome.report)
        return outcome

    def _manifest(self, step: str) -> tasks.RoundManifest:
        ids, answers = self.pool.item_ids, self.answers
        random = [] if step == "embed" else self.random
        return tasks.RoundManifest.model_validate(
            {
                "job_uid": "bench",
                "number": self.number,
                "step": step,
                "dataset": self.pool.name,
                "version": 1,
                "pool_sha256": "",
                "features_key": "",
                "features_sha256": "",
                "labels": [(str(ids[row]), "a", int(answers[row])) for row in self.labelled],
                "random": [(str(ids[row]), int(answers[row])) for row in random],
                "exclude": [] if step == "finalise" else sorted(str(ids[r]) for r in self.random),
                "classes": list(self.pool.classes),
                "schema_version": 1,
                "engine_version": "bench",
                "seed": self.seed,
                "batch": self.plan.batch,
                "strategy": self.plan.strategy,
                "target": {
                    "error": f"{self.plan.error:g}",
                    "confidence": f"{self.plan.confidence:g}",
                    "guarantee": self.plan.guarantee,
                    "mode": self.plan.mode,
                },
                "random_size": self.plan.random,
                "history": self.history,
            }
        )


def certified(pool: Pool, plan: Plan, seed: int, *, noise: float = 0.0) -> dict[str, Any]:
    """Return the figures of one certified job whose uncovered rows people answer."""
    answers = people(pool, seed, noise=noise)
    job = Job(pool, plan, seed, answers)
    outcome = job.play()
    accepted = np.searchsorted(pool.item_ids, np.asarray(outcome.accepted, dtype=str))
    predicted = outcome.predictions["predicted"]
    n_items = len(pool)
    right = predicted[accepted] == answers[accepted]
    certificate = certify.Certificate.read(outcome.certificate)
    rest = np.setdiff1d(np.arange(n_items), job.labelled)
    return {
        "seed": seed,
        "outcome": certify.settled_outcome(certificate, uncovered_left=0),
        "human_label_fraction": 1 - len(accepted) / n_items,
        "auto_label_accuracy": float(right.mean()) if len(right) else None,
        "certified_error": certificate.certified_error,
        "true_error": float((~right).sum() / n_items),
        "target_error": plan.error,
        "coverage": len(accepted) / max(1, len(rest)),
        "random_wrong": certificate.random_wrong,
        "forecast": [
            (one["coverage_low"], one["coverage"], one["coverage_high"]) for one in job.forecasts
        ],
        "seconds": job.seconds,
    }


def curve(pool: Pool, shares: list[float], seed: int, *, strategy: str = "auto") -> list[float]:
    """Return rows right after each share of human labels, all chosen, nothing certified."""
    steps = [round(share * len(pool)) for share in shares]
    largest = max(np.diff([0, *steps]))
    plan = Plan(random=0, chosen=steps[-1], batch=int(largest), strategy=strategy)
    job = Job(pool, plan, seed, pool.truth)
    outcome = job.step("embed")
    found = []
    for step in steps:
        job.answer(outcome, step - len(job.labelled))
        assert len(job.labelled) == step
        outcome = job.step("learn")
        right = outcome.predictions["predicted"] == pool.truth
        right[job.labelled] = True
        found.append(float(right.mean()))
    return found


def people(pool: Pool, seed: int, *, noise: float) -> Ints:
    """Return what people answer: the truth, but for a share of ``noise`` random other classes."""
    draw = np.random.default_rng([seed, 77])
    answers = pool.truth.copy()
    wrong = draw.random(len(answers)) < noise
    shift = draw.integers(1, len(pool.classes), size=len(answers))
    answers[wrong] = (answers[wrong] + shift[wrong]) % len(pool.classes)
    return answers
