"""What a ClusterRuntime makes of a run: defaults filled in, caps and modes checked. Pure.

Called by the reconciler before it plans an attempt.
"""

from __future__ import annotations

import hashlib
import json

from quintile.core import admin_kinds, errors, experiment, quantities, runplan, topology


def apply(
    spec: experiment.ExperimentSpec, runtime: admin_kinds.ClusterRuntime
) -> experiment.ExperimentSpec:
    """Return the spec with the runtime's defaults where the user said nothing.

    Raises:
        InvalidSpec: The mode is not allowed here, or more is asked for than the limits.
    """
    name, rules = runtime.metadata.name, runtime.spec
    mode = topology.resolve(spec.run).mode
    if rules.modes and mode not in rules.modes and "auto" not in rules.modes:
        raise errors.InvalidSpec(
            f"Runtime {name} does not run mode {mode}.",
            hint=f"It runs {', '.join(rules.modes)}; choose another mode or runtime.",
            field="spec.run.mode",
        )
    wanted = spec.run.resources
    filled = wanted.model_copy(
        update={
            "cpu": wanted.cpu if wanted.cpu is not None else rules.defaults.cpu,
            "memory": wanted.memory if wanted.memory is not None else rules.defaults.memory,
            "gpu": wanted.gpu or (spec.run.use_gpu and rules.defaults.gpu) or 0,
        }
    )
    _check(filled, rules.limits, name=name)
    return spec.model_copy(update={"run": spec.run.model_copy(update={"resources": filled})})


def pod(runtime: admin_kinds.ClusterRuntime) -> runplan.Pod:
    """Return what a runtime says about pods.

    Raises:
        InvalidSpec: ``shmSize`` cannot be read.
    """
    rules = runtime.spec
    tolerations = [
        {name: value for name, value in entry.document().items() if value}
        for entry in rules.tolerations
    ]
    shm = rules.shm_size
    return runplan.Pod(
        image=rules.image,
        node_selector=tuple(sorted(rules.node_selector.items())),
        tolerations=tuple(json.dumps(entry, sort_keys=True) for entry in tolerations),
        priority_class=rules.priority_class or "",
        gpu_resource=rules.gpu_resource,
        shm_bytes=quantities.memory_bytes(shm, field="spec.shmSize") if shm else 0,
    )


def digest(runtime: admin_kinds.ClusterRuntime) -> str:
    """Return the sha256 of what a runtime says, so that a trial can tell which one it ran in."""
    text = json.dumps(runtime.spec.document(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check(wanted: experiment.Resources, limits: admin_kinds.Amounts, *, name: str) -> None:
    if wanted.cpu is not None and limits.cpu is not None:
        asked = quantities.cpu_millis(wanted.cpu, field="spec.run.resources.cpu")
        most = quantities.cpu_millis(limits.cpu, field="spec.limits.cpu")
        _refuse_above("cpu", asked, most, shown=(wanted.cpu, limits.cpu), name=name)
    if wanted.memory is not None and limits.memory is not None:
        asked = quantities.memory_bytes(wanted.memory, field="spec.run.resources.memory")
        most = quantities.memory_bytes(limits.memory, field="spec.limits.memory")
        _refuse_above("memory", asked, most, shown=(wanted.memory, limits.memory), name=name)
    if limits.gpu is not None:
        shown = (str(wanted.gpu), str(limits.gpu))
        _refuse_above("gpu", wanted.gpu, limits.gpu, shown=shown, name=name)


def _refuse_above(
    resource: str, asked: int, most: int, *, shown: tuple[str, str], name: str
) -> None:
    if asked > most:
        raise errors.InvalidSpec(
            f"run.resources.{resource} is {shown[0]}, but runtime {name} allows {shown[1]} for a "
            "replica.",
            hint="Ask for less, or for another runtime.",
            field=f"spec.run.resources.{resource}",
        )
