"""From what a user gives to the Experiment that is submitted. Pure but for packing the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from quintile.core import errors
from quintile.sdk import bundles, estimators, run_config

_REFERENCE = re.compile(r"^([a-z][-a-z0-9]*)(?::(\d+))?(?:/([a-z][-a-z0-9]*))?$")


@dataclass(frozen=True)
class DataReference:
    """A dataset version as text names it; version 0 = the newest, split "" = none."""

    name: str
    version: int = 0
    split: str = ""


def parse_reference(text: str) -> DataReference:
    """Return what ``name``, ``name:version`` or ``name:version/split`` means.

    Raises:
        InvalidSpec: It is not of that form.
    """
    match = _REFERENCE.match(text)
    if match is None:
        raise errors.InvalidSpec(
            f"{text!r} does not name a dataset version; expected NAME, NAME:VERSION or "
            "NAME:VERSION/SPLIT.",
            hint="Write it as digits:2/holdout.",
            field="dataset",
        )
    name, version, split = match.groups()
    return DataReference(name, int(version or 0), split or "")


@dataclass(frozen=True)
class Wanted:
    """One experiment to submit; ``dataset`` is the JSON of ``spec.dataset``, None = none."""

    estimator: estimators.Estimator
    hparams: run_config.HParams
    config: run_config.RunConfig
    dataset: dict[str, Any] | None = None
    input_fn: estimators.Function | None = None
    description: str = ""


def pack(wanted: Wanted) -> bundles.Bundle | None:
    """Return the code that travels; None for a built-in model.

    Raises:
        InvalidSpec, TooLarge: The code cannot travel; says which file or value.
    """
    program = wanted.estimator.program
    if isinstance(program, estimators.Script):
        return bundles.of_script(program.path, folder=program.folder)
    if isinstance(program, estimators.Functions):
        from quintile.sdk import functions

        roles = {
            "model_fn": program.model_fn,
            "input_fn": wanted.input_fn,
            "loss_fn": program.loss_fn,
            "metric_fn": program.metric_fn,
        }
        return functions.pack({name: one for name, one in roles.items() if one is not None})
    return None


def spec_of(wanted: Wanted, bundle: bundles.Bundle | None) -> dict[str, Any]:
    """Return the spec of the Experiment as JSON.

    Raises:
        InvalidSpec: The parts do not fit together.
    """
    wanted.config.check()
    _check_data(wanted)
    config = wanted.config
    limits = {name: getattr(config, name) for name in ("cpu", "memory") if getattr(config, name)}
    spec: dict[str, Any] = {
        "description": wanted.description or wanted.estimator.description,
        "estimator": _estimator(wanted, bundle),
        "hparams": [
            {"name": name, "value": value} for name, value in wanted.hparams.texts().items()
        ],
        "run": {
            "mode": config.mode,
            "comm": config.comm,
            "horovod": {"controller": config.horovod_controller},
            "workers": _workers(config),
            "ps": _servers(config),
            "useGpu": config.use_gpu,
            "runEval": config.run_eval,
            "deterministic": config.deterministic,
            "resources": limits,
        },
        "checkpoint": {"everySteps": config.checkpoint_frequency_in_steps},
        "telemetry": _telemetry(config),
        "failure": {
            "maxRestarts": config.max_restarts,
            "rules": [dict(rule) for rule in config.failure_rules],
        },
    }
    spec |= _pods(config)
    return spec if wanted.dataset is None else {**spec, "dataset": wanted.dataset}


def _pods(config: run_config.RunConfig) -> dict[str, Any]:
    """Return what is for a cluster alone, as far as it is given."""
    secrets = [
        {"name": name} if folder is None else {"name": name, "mountPath": folder}
        for name, folder in config.secrets.items()
    ]
    told = {
        "queue": config.queue,
        "priority": config.priority,
        "runtime": config.runtime,
        "image": config.image,
        "secretRefs": secrets,
        "podOverrides": dict(config.pod_overrides),
    }
    return {name: value for name, value in told.items() if value}


def _workers(config: run_config.RunConfig) -> dict[str, Any]:
    bounds = {"min": config.min_workers, "max": config.max_workers}
    given = {name: value for name, value in bounds.items() if value is not None}
    return {"replicas": config.no_of_workers, **given}


def _telemetry(config: run_config.RunConfig) -> dict[str, Any]:
    told = {
        "summaryEverySteps": config.summary_save_frequency,
        "progressTimeoutSeconds": config.progress_timeout_s,
    }
    if config.start_timeout_s is None:
        return told
    return {**told, "startTimeoutSeconds": config.start_timeout_s}


def _servers(config: run_config.RunConfig) -> dict[str, Any]:
    servers = {"replicas": config.no_of_ps, "consistency": config.consistency}
    return servers if config.staleness is None else {**servers, "staleness": config.staleness}


def _estimator(wanted: Wanted, bundle: bundles.Bundle | None) -> dict[str, Any]:
    program = wanted.estimator.program
    env = [{"name": name, "value": value} for name, value in wanted.config.env.items()]
    if isinstance(program, estimators.Builtin):
        return {"builtin": {"task": program.task, "model": program.model}, "env": env}
    assert bundle is not None
    if isinstance(program, estimators.Functions):
        return {"functions": {"bundle": bundle.sha256, "task": program.task}, "env": env}
    script = {"bundle": bundle.sha256, "entry": bundle.entry, "args": list(program.args)}
    said = {"elastic": True} if program.elastic or bundle.elastic else {}
    return {"script": {**script, **said}, "env": env}


def _check_data(wanted: Wanted) -> None:
    program = wanted.estimator.program
    if wanted.input_fn is not None and not isinstance(program, estimators.Functions):
        raise errors.InvalidSpec(
            "input_function works with an estimator of your own functions only.",
            hint="Leave it out, or use Estimator.NewClassificationEstimator(model_fn=...).",
            field="input_function",
        )
    if isinstance(program, estimators.Script) or wanted.dataset is not None:
        return
    if wanted.input_fn is None:
        raise errors.InvalidSpec(
            "The experiment has no data: neither dataset_version_split nor input_function.",
            hint='Give dataset_version_split="NAME:VERSION/SPLIT", or an input_function.',
            field="dataset_version_split",
        )
