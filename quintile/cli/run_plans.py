"""What ``quintile plan`` plans: an Experiment from a file or from options, and its RunPlans."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quintile.cli import apply, rendering
from quintile.core import errors, experiment, meta, plan, search
from quintile.sdk import blocking, checking, configuration

DEFAULT_BATCH: Final = 32
LOCAL_URL: Final = "http://127.0.0.1:8420"
"""Where a server of this machine listens; only shown, when none is known."""


@dataclass(frozen=True)
class Changes:
    """What the options say; None = as the file says, or the default."""

    model: str | None
    workers: int | None
    servers: int | None
    mode: str | None
    batch: int | None
    image: str


@dataclass(frozen=True)
class Wanted:
    """The experiment in question; ``model`` is empty when it is no built-in one."""

    resource: experiment.Experiment
    project: str
    model: str
    batch: int
    image: tuple[int, int, int]

    @property
    def run(self) -> experiment.RunSpec:
        """Return how it is spread."""
        return self.resource.spec.run

    @property
    def servers(self) -> int:
        """Return the number of parameter servers; 0 in all modes but ps."""
        return self.run.ps.replicas if self.run.mode in ("ps", "auto") else 0


@dataclass(frozen=True)
class Planned:
    """The RunPlans as JSON, one per trial; or why there is none."""

    plans: tuple[dict[str, Any], ...]
    refused: str = ""


def wanted(spec: Path | None, changes: Changes, *, project: str | None) -> Wanted:
    """Return the experiment that a file and options describe.

    Raises:
        InvalidSpec: Neither or both are given, or they do not fit together.
    """
    if (spec is None) == (changes.model is None):
        count = "neither" if spec is None else "both"
        raise errors.InvalidSpec(
            f"quintile plan takes either a file or --model; it got {count}.",
            hint="As: quintile plan experiment.yaml, or: quintile plan --model resnet8 -w 4",
        )
    document = _document(spec) if spec is not None else _builtin(str(changes.model))
    changed = _changed(document, changes)
    found = checking.parse(experiment.Experiment, changed, what="The Experiment")
    hparams = {one.name: one.value for one in found.spec.hparams}
    builtin = found.spec.estimator.builtin
    return Wanted(
        resource=found,
        project=project or found.metadata.namespace,
        model=builtin.model if builtin is not None else "",
        batch=_whole(hparams.get("batch_size", ""), "batch_size") or DEFAULT_BATCH,
        image=_image(changes.image, _whole(hparams.get("image_size", ""), "image_size")),
    )


def find(of: Wanted) -> Planned:
    """Return the RunPlans: from the server when one is known, else worked out here, which is equal.

    A refusal is part of the answer: what it would cost may be of interest all the same.
    """
    try:
        return _of_server(of)
    except errors.Unavailable as away:
        rendering.note(f"note: planned without a server: {away.message}")
    except errors.InvalidSpec as refused:
        return Planned((), str(refused))
    try:
        trials = search.trials(of.resource)
        return Planned(tuple(plan.printable(_of_trial(trial)) for trial in trials))
    except errors.InvalidSpec as refused:
        return Planned((), str(refused))


def _of_server(of: Wanted) -> Planned:
    found = configuration.find(project=of.project)
    name, spec = of.resource.metadata.name, of.resource.spec.document()
    session = blocking.Session(found)
    try:
        answer = session.run(session.client.experiments.plan(session.project, name, spec))
    finally:
        session.close()
    return Planned(tuple(answer.plans))


def _of_trial(trial: experiment.Trial) -> Any:
    return plan.plan_trial(
        trial, attempt=1, api_url=LOCAL_URL, python=sys.executable, token="", hosts={}
    )


def _document(path: Path) -> meta.Document:
    found = [one for one in apply.read(path) if one["kind"] == "Experiment"]
    if len(found) != 1:
        raise errors.InvalidSpec(
            f"{path} holds {len(found)} Experiments; expected one to plan.", field="spec"
        )
    return found[0]


def _builtin(model: str) -> meta.Document:
    return {
        "metadata": {"name": f"plan-{model.lower()}"},
        "spec": {"estimator": {"builtin": {"model": model}}},
    }


def _changed(document: meta.Document, changes: Changes) -> meta.Document:
    spec = dict(document.get("spec") or {})
    run = dict(spec.get("run") or {})
    if changes.workers is not None:
        run["workers"] = {**(run.get("workers") or {}), "replicas": changes.workers}
    if changes.servers is not None:
        run["ps"] = {"replicas": changes.servers}
    if changes.mode is not None:
        run["mode"] = changes.mode
    hparams = list(spec.get("hparams") or [])
    if changes.batch is not None:
        kept = [one for one in hparams if one.get("name") != "batch_size"]
        hparams = [*kept, {"name": "batch_size", "value": str(changes.batch)}]
    return {**document, "spec": {**spec, "run": run, "hparams": hparams}}


def _whole(text: str, name: str) -> int:
    try:
        return int(text or "0")
    except ValueError as error:
        raise errors.InvalidSpec(
            f"hparam {name} is {text!r}; expected a whole number.", field=f"spec.hparams.{name}"
        ) from error


def _image(text: str, side: int) -> tuple[int, int, int]:
    parts: Sequence[str] = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise errors.InvalidSpec(
            f"--image got {text!r}; expected HEIGHTxWIDTHxCHANNELS as 28x28x1.", field="image"
        )
    height, width, channels = (int(part) for part in parts)
    return (side or height, side or width, channels)
