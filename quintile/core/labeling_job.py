"""The LabelingJob resource: which images, which labels, how certain.

Written by users; the reconciler owns its status and its round Experiments; everything that people
answer lives with the labeling service.
"""

from __future__ import annotations

import fractions
import math
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from quintile.core import patterns
from quintile.core.meta import (
    API_VERSION,
    Condition,
    Decimal,
    Name,
    ObjectMeta,
    Short,
    Text,
    Wire,
)

Share = Annotated[str, StringConstraints(pattern=patterns.SHARE, max_length=16)]
"""A count of items (``20``) or a share of the pool (``5%``)."""

ShareAboveZero = Annotated[str, StringConstraints(pattern=patterns.SHARE_ABOVE_ZERO, max_length=16)]

StrategyName = Literal[
    "auto", "random", "maxherding", "uherding", "margin", "entropy", "typiclust", "coreset", "badge"
]
JobPhase = Literal[
    "Pending",
    "Importing",
    "Labeling",
    "Finalising",
    "Covering",
    "Exporting",
    "Suspended",
    "Succeeded",
    "Failed",
]


class Source(Wire):
    """The dataset version whose items are labelled."""

    name: Name
    version: Annotated[int, Field(ge=1)]


class Target(Wire):
    """How wrong the result may be, how sure we must be, and how that is shown.

    ``random`` is the size of the random stratum R (count or share); unset = the smallest that
    can certify ``error`` with one wrong item allowed.
    """

    error: Decimal = "0.02"
    confidence: Decimal = "0.95"
    guarantee: Literal["dataset", "precision"] = "dataset"
    mode: Literal["crossfit", "strict"] = "crossfit"
    looks: Literal["final"] = "final"
    random: Share | None = None

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if not 0 < float(self.error) < 0.5:
            raise ValueError(f"error is {self.error}; expected between 0 and 0.5, as 0.02")
        if not 0.5 <= float(self.confidence) < 1:
            raise ValueError(
                f"confidence is {self.confidence}; expected 0.5 or more and below 1, as 0.95"
            )
        return self


class Strategy(Wire):
    """How items are chosen: name, items per round, whether people work while a round trains."""

    name: StrategyName = "auto"
    batch: ShareAboveZero = "5%"
    lookahead: Annotated[int, Field(ge=0, le=1)] = 1


class Budget(Wire):
    """What people may be asked: decisions in all, rounds at most, chosen (non-R) items at most."""

    max_human_labels: Share = "20%"
    max_rounds: Annotated[int, Field(ge=1, le=100)] = 8
    max_chosen: Share | None = None


class Finish(Wire):
    """What happens to rows that the certificate does not cover."""

    uncovered: Literal["people", "leave", "autoUncertified"] = "people"


class Review(Wire):
    """Second opinions: share of items answered twice, who may answer."""

    overlap: Share = "0%"
    annotators: list[Short] = Field(default_factory=list, max_length=1000)


class FeatureModel(Wire):
    """Where features come from; ``cpu`` needs no weights and no torch."""

    features: Literal["cpu"] = "cpu"


class Output(Wire):
    """Version number of the exported dataset; unset = the next free one."""

    version: Annotated[int, Field(ge=2)] | None = None


class LabelingJobSpec(Wire):
    """What the user asked for; immutable but for ``suspend``, appended labels and the budget."""

    dataset: Source
    task: Literal["classification"] = "classification"
    labels: list[Short] = Field(min_length=2, max_length=1000)
    target: Target = Target()
    strategy: Strategy = Strategy()
    budget: Budget = Budget()
    finish: Finish = Finish()
    review: Review = Review()
    model: FeatureModel = FeatureModel()
    output: Output = Output()
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    suspend: bool = False
    managed_by: Short = "quintile.dev/default"

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Self:
        doubled = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if doubled:
            raise ValueError(f"labels holds {', '.join(doubled)} more than once")
        if any(not label.strip() for label in self.labels):
            raise ValueError("labels holds an empty name; give every class a name")
        if self.output.version is not None and self.output.version == self.dataset.version:
            raise ValueError(
                f"output.version {self.output.version} is the input version; versions are immutable"
            )
        return self


class Counts(Wire):
    """Items by who answered them."""

    items: int = 0
    human: int = 0
    auto: int = 0
    unlabeled: int = 0
    decisions: int = 0


class LabelingJobStatus(Wire):
    """What the reconciler saw of a labeling job."""

    observed_generation: int = 0
    phase: JobPhase = "Pending"
    reason: Short = ""
    message: Text = ""
    conditions: list[Condition] = Field(default_factory=list, max_length=16)
    round: int = 0
    counts: Counts = Counts()
    human_fraction: Decimal | None = None
    coverage: Decimal | None = None
    certified_error: Decimal | None = None
    labels_left: int | None = None
    random_commitment: Short = ""
    output_version: int | None = None
    experiments: list[Short] = Field(default_factory=list, max_length=200)
    start_time: str = ""
    completion_time: str = ""


class LabelingJob(Wire):
    """One labeling request of a user."""

    api_version: Literal["quintile.dev/v1alpha1"] = API_VERSION
    kind: Literal["LabelingJob"] = "LabelingJob"
    metadata: ObjectMeta
    spec: LabelingJobSpec
    status: LabelingJobStatus | None = None


def count_of(share: str, total: int) -> int:
    """Return how many items ``share`` means of ``total``; percentages round up to whole items."""
    if share.endswith("%"):
        return min(total, math.ceil(fractions.Fraction(share[:-1]) * total / 100))
    return min(total, int(share))
