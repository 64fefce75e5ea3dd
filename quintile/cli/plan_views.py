"""How ``quintile plan`` shows its answer: tables for people, one document for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from quintile.cli import predicting, rendering, run_plans
from quintile.cli.options import Output
from quintile.core.scaling import outlook, records, units

WIDEST = 100


def write(
    wanted: run_plans.Wanted,
    planned: run_plans.Planned,
    prediction: predicting.Prediction,
    output: Output,
) -> None:
    """Write plan and prediction."""
    name = wanted.resource.metadata.name
    if output is Output.NAME:
        rendering.write_lines([name])
    elif output is Output.TABLE:
        _write_plans(name, planned)
        _write_prediction(prediction)
    else:
        rendering.write_document(_document(name, planned, prediction), output)


def _write_plans(name: str, planned: run_plans.Planned) -> None:
    if planned.refused:
        rendering.note(f"warning: this cannot run: {planned.refused}")
    for plan in planned.plans:
        replicas = plan["replicas"]
        rendering.write_facts({"experiment": name, "trial": plan["trial"], "mode": plan["mode"]})
        rendering.write_table(
            {
                "replica": [one["name"] for one in replicas],
                "role": [one["role"] for one in replicas],
                "ranks": [one["procs"] for one in replicas],
                "address": [_address(one) for one in replicas],
                "command": [" ".join(one["argv"]) for one in replicas],
            }
        )
        firsts = {one["role"]: one for one in reversed(replicas)}
        for role, first in sorted(firsts.items()):
            rendering.write_lines([f"environment of {role} {first['index']}:"])
            rendering.write_lines(_environment(first["env"]))


def _address(replica: dict[str, Any]) -> str:
    return str(replica["env"].get("QUINTILE_HOST") or "given at the start")


def _environment(env: dict[str, str]) -> Iterator[str]:
    for key, value in sorted(env.items()):
        shown = value if len(value) <= WIDEST else f"{value[: WIDEST - 4]} ..."
        yield f"  {key}={shown}"


def _write_prediction(prediction: predicting.Prediction) -> None:
    found, calibration = prediction.outlook, prediction.calibration
    if found is None or calibration is None:
        rendering.note(f"no prediction: {prediction.missing}")
        return
    rendering.write_lines(["", "as a prediction, with its inputs:"])
    rendering.write_lines(f"  {line}" for line in inputs(found, calibration))
    rendering.write_lines([""])
    rendering.write_table(_columns(found))
    rendering.write_lines(["", *_checks(found)])
    for note in found.notes:
        rendering.note(f"warning: {note}")


def inputs(found: outlook.Outlook, calibration: records.Calibration) -> Iterator[str]:
    """Yield what a prediction rests on."""
    machine, constants, cluster = calibration.machine, found.constants, found.cluster
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    yield (
        f"calibrated {calibration.made_at} on {machine.processor}, {machine.processors:g} "
        f"processors, load {machine.load:.1f}, {threads} a worker"
    )
    yield (
        f"{found.wish.profile}: {1000 * _alone(found):.3g} ms a step alone, gradients of "
        f"{found.work.gradient_bytes / 1e6:.3g} MB in {len(found.work.buckets)} sums"
    )
    inside = constants.inside
    yield (
        f"measured: {units.time_text(inside.delay_s)} a message, "
        f"{units.rate_text(inside.bytes_per_s)} inside a host, jitter "
        f"{100 * constants.jitter:.1f} %, {100 * constants.host.memory:.1f} % slower for each "
        "worker beside"
    )
    wish = found.wish
    yield (
        f"assumed: hosts like this one with {cluster.per_host} workers each, a network of "
        f"{units.rate_text(wish.across.bytes_per_s)} and {units.time_text(wish.across.delay_s)} "
        f"one way, gradients by {_scheme(found)}"
    )
    if wish.decodes:
        yield "assumed: images are decoded in every step"
    if wish.storage_bytes_per_s is not None:
        yield f"assumed: storage of {units.rate_text(wish.storage_bytes_per_s)} for all together"


def _alone(found: outlook.Outlook) -> float:
    return found.points[0].step.seconds


def _scheme(found: outlook.Outlook) -> str:
    plan = found.wish.plan
    return f"{plan.servers} parameter servers" if plan.scheme == "servers" else plan.scheme


def _columns(found: outlook.Outlook) -> dict[str, Sequence[Any]]:
    points = found.points
    cost = "hours/M images" if found.wish.price is None else "cost/M images"
    return {
        "workers": [point.step.workers for point in points],
        "hosts": [point.step.hosts for point in points],
        "images/s": [_short(point.step.images_per_s) for point in points],
        "low": [_short(point.band.low) for point in points],
        "high": [_short(point.band.high) for point in points],
        "efficiency": [round(point.efficiency, 3) for point in points],
        "waiting": [_share(point, point.step.waiting_s) for point in points],
        "summing": [_share(point, point.step.summing_s) for point in points],
        "stalled": [_share(point, point.step.stalled_s) for point in points],
        cost: [float(f"{point.cost:.3g}") for point in points],
    }


def _short(rate: float) -> float | int:
    return round(rate) if rate >= 100 else round(rate, 2)


def _share(point: outlook.Point, seconds: float) -> str:
    return f"{100 * seconds / point.step.seconds:.0f} %"


def _checks(found: outlook.Outlook) -> Iterator[str]:
    yield "low and high: 90 %, from redrawn measurements and the error on held-out runs"
    for check in found.checks:
        if "sum of" not in check.name:
            yield (
                f"held out: {check.name}: predicted {1000 * check.predicted_s:.3g} ms a step, "
                f"measured {1000 * check.measured_s:.3g} ms ({100 * check.error:+.0f} %)"
            )
    summed = [check for check in found.checks if "sum of" in check.name]
    if summed:
        worst = max(summed, key=lambda check: abs(check.error))
        yield (
            f"held out: {len(summed)} sums, each predicted from the others: worst "
            f"{100 * worst.error:+.0f} % ({worst.name})"
        )


def _document(
    name: str, planned: run_plans.Planned, prediction: predicting.Prediction
) -> dict[str, Any]:
    found, calibration = prediction.outlook, prediction.calibration
    document: dict[str, Any] = {
        "experiment": name,
        "plans": list(planned.plans),
        "refused": planned.refused or None,
        "prediction": None,
        "missing": prediction.missing or None,
    }
    if found is None or calibration is None:
        return document
    return {
        **document,
        "prediction": {
            "inputs": list(inputs(found, calibration)),
            "error": found.error,
            "held_out": [
                {**dataclasses.asdict(check), "error": check.error} for check in found.checks
            ],
            "curve": [_row(point) for point in found.points],
            "cost_unit": "worker-hours" if found.wish.price is None else "price",
            "notes": list(found.notes),
        },
    }


def _row(point: outlook.Point) -> dict[str, Any]:
    return {
        "workers": point.step.workers,
        "hosts": point.step.hosts,
        "images_per_s": point.step.images_per_s,
        "low": point.band.low,
        "high": point.band.high,
        "efficiency": point.efficiency,
        "step_s": point.step.seconds,
        "computing_s": point.step.computing_s,
        "waiting_s": point.step.waiting_s,
        "summing_s": point.step.summing_s,
        "stalled_s": point.step.stalled_s,
        "cost_per_million_images": point.cost,
    }
