"""What a prediction means for whoever planned the run, in sentences. Pure."""

from __future__ import annotations

from quintile.core.scaling import collectives, fit, predict, records

NOTABLE = 0.10
"""A part of a step is named from this share on."""


def servers(work: predict.Work, cluster: predict.Cluster, plan: predict.Plan, workers: int) -> str:
    """Return a warning where parameter servers move more bytes than a ring, else nothing."""
    if plan.scheme != "servers" or workers < 2:
        return ""
    team = collectives.Team(workers, plan.servers, min(workers, cluster.per_host))
    theirs, ring = collectives.servers_wire(team), collectives.ring_wire(workers)
    if theirs <= ring:
        return ""
    slow = predict.step(work, cluster, plan, workers).images_per_s
    fast = predict.step(work, cluster, predict.Plan("ring"), workers).images_per_s
    words = (
        f"{plan.servers} parameter {_plural('server', plan.servers)} x {workers} workers would "
        f"take {theirs / ring:.1f}x the wire time of a ring ({theirs:.1f} against {ring:.1f} times "
        f"the model's bytes over the busiest link; {theirs / 2 / ring:.1f}x at best, with all "
        "pulls beside pushes)."
    )
    if slow >= fast:
        return (
            f"{words} This model is so small that delays count more: {slow:,.0f} against "
            f"{fast:,.0f} images/s."
        )
    return (
        f"{words} {slow:,.0f} instead of {fast:,.0f} images/s: use mode ddp, or more servers; they "
        "pay off for stragglers and sparse models."
    )


def costs(step: predict.Step) -> tuple[str, ...]:
    """Return what a step loses, the largest part first, with what helps."""
    parts = {
        "waiting for the slowest worker": (
            step.waiting_s,
            "look for slow hosts, or let workers run ahead (mode ps, ssp)",
        ),
        "summing gradients": (
            step.summing_s,
            "raise batch_size, or use a faster network or fewer, larger hosts",
        ),
        "waiting for storage": (step.stalled_s, "keep the data on the hosts' own disks"),
    }
    found = sorted(parts.items(), key=lambda one: -one[1][0])
    return tuple(
        f"At {step.workers:,} workers {100 * seconds / step.seconds:.0f} % of a step is {name}: "
        f"{help_}."
        for name, (seconds, help_) in found
        if seconds >= NOTABLE * step.seconds
    )


def crowded(cluster: predict.Cluster) -> str:
    """Return a warning where a host gets more workers than it has processors for."""
    host = cluster.host
    if cluster.per_host <= host.slots:
        return ""
    return (
        f"{cluster.per_host} workers of {host.threads} {_plural('thread', host.threads)} share the "
        f"{host.processors:g} processors of a host: each step takes "
        f"{host.crowding(cluster.per_host):.1f}x as long as alone. Use at most {host.slots} per "
        "host."
    )


def doubtful(calibration: records.Calibration, error: float) -> tuple[str, ...]:
    """Return why a calibration should be made again."""
    found = []
    if fit.busy(calibration):
        machine = calibration.machine
        found.append(
            f"The machine was busy with other work during the calibration (load {machine.load:.1f} "
            f"on {machine.processors:g} processors): held-out errors say little. Calibrate again "
            "when it is idle."
        )
    if error > NOTABLE:
        found.append(
            f"Held-out runs were off by {100 * error:.0f} %: take the figures as a rough guess."
        )
    return tuple(found)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
