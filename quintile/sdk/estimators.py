"""What runs: a built-in model, the user's functions, or the user's script.

Nothing heavy is imported here; code is packed when an experiment is submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quintile.core import errors

Function = Callable[..., Any]


@dataclass(frozen=True)
class Builtin:
    """A model of the platform, by name."""

    model: str
    task: str = "classification"


@dataclass(frozen=True)
class Functions:
    """The user's functions; ``model_fn(hparams)`` returns the module."""

    model_fn: Function
    loss_fn: Function | None = None
    metric_fn: Function | None = None
    task: str = "classification"


@dataclass(frozen=True)
class Script:
    """A script with the files of its folder."""

    path: Path
    args: tuple[str, ...] = ()
    folder: Path | None = None
    elastic: bool = False


@dataclass(frozen=True)
class Estimator:
    """What an experiment trains.

    Attributes:
        program: The code.
        name: For people.
        description: For people.
    """

    program: Builtin | Functions | Script
    name: str = ""
    description: str = ""

    @classmethod
    def NewClassificationEstimator(  # noqa: N802 - the name that notebooks use
        cls,
        model_fn: Function,
        *,
        loss_fn: Function | None = None,
        metric_fn: Function | None = None,
    ) -> Estimator:
        """Return an estimator of your own functions.

        Args:
            model_fn: ``model_fn(hparams) -> torch.nn.Module``.
            loss_fn: ``loss_fn(outputs, targets) -> scalar``, a mean; None = cross entropy.
            metric_fn: ``metric_fn(outputs, targets) -> {name: mean}``; None = accuracy.
        """
        for name, given in (("model_fn", model_fn), ("loss_fn", loss_fn), ("metric_fn", metric_fn)):
            if not callable(given) and not (given is None and name != "model_fn"):
                raise errors.InvalidSpec(
                    f"{name} is a {type(given).__name__}; expected a function.", field=name
                )
        return cls(Functions(model_fn, loss_fn, metric_fn))

    @classmethod
    def NewDetectionEstimator(cls, model_fn: Function) -> Estimator:  # noqa: N802, ARG003 - as above
        """Refuse: detection is not in this release."""
        raise _later("detection")

    @classmethod
    def NewSegmentationEstimator(cls, model_fn: Function) -> Estimator:  # noqa: N802, ARG003 - as above
        """Refuse: segmentation is not in this release."""
        raise _later("segmentation")

    @classmethod
    def builtin(cls, model: str = "resnet8") -> Estimator:
        """Return an estimator of a model of the platform: resnet8, 18, 34 or 50."""
        return cls(Builtin(model))

    @classmethod
    def script(
        cls,
        path: str | Path,
        *,
        args: Sequence[str] = (),
        folder: str | Path | None = None,
        elastic: bool = False,
    ) -> Estimator:
        """Return an estimator of a script.

        Args:
            path: The script.
            args: Its arguments.
            folder: What travels with it; None = the folder of the script.
            elastic: It keeps its state by ``hvd.elastic`` or ``quintile.checkpoint``, in a module
                of its own; where the script itself does, that is seen. See ``docs/elastic.md``.
        """
        root = Path(folder) if folder is not None else None
        return cls(Script(Path(path), tuple(str(one) for one in args), root, elastic))

    @classmethod
    def create(cls, name: str, description: str, estimator: Estimator) -> Estimator:
        """Return ``estimator`` with a name and a description."""
        return replace(estimator, name=name, description=description)


def _later(task: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"The task {task} is not in this release.",
        hint="Use NewClassificationEstimator, or run your own script with Estimator.script.",
        field="estimator",
    )
