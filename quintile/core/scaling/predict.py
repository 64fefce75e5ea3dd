"""A step on n workers: computing, waiting for the slowest, summing, waiting for data. Pure."""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import Literal

from quintile.core.scaling import collectives, fit, hosts, overlap, records

Scheme = Literal["ring", "two-level", "servers"]
_NORMAL = statistics.NormalDist()


@dataclass(frozen=True)
class Work:
    """One worker's step, alone on an idle host: seconds of its parts, and its gradients.

    ``wrapping_s`` is what being ready to sum gradients adds where there is somebody to sum with;
    ``decode_s`` is per step and zero when decoded images are kept; ``stored_bytes`` per step.
    """

    batch: int
    input_s: float
    forward_s: float
    backward_s: float
    update_s: float
    buckets: tuple[records.Bucket, ...]
    wrapping_s: float = 0.0
    decode_s: float = 0.0
    stored_bytes: float = 0.0

    @property
    def gradient_bytes(self) -> int:
        """Return what one worker gives to the sums of a step."""
        return sum(one.size_bytes for one in self.buckets)


@dataclass(frozen=True)
class Cluster:
    """Equal hosts and what joins them.

    ``storage_bytes_per_s`` is what all workers together can read; None: not the limit.
    """

    host: hosts.Host
    per_host: int
    inside: collectives.Link
    across: collectives.Link
    add_bytes_per_s: float
    jitter: float
    storage_bytes_per_s: float | None = None


@dataclass(frozen=True)
class Plan:
    """How workers sum their gradients; ``servers`` only where there are any."""

    scheme: Scheme = "ring"
    servers: int = 0


@dataclass(frozen=True)
class Step:
    """Seconds of one step, by what they are spent on."""

    workers: int
    hosts: int
    batch: int
    computing_s: float
    waiting_s: float
    summing_s: float
    stalled_s: float

    @property
    def seconds(self) -> float:
        """Return the length of the step."""
        return self.computing_s + self.waiting_s + self.summing_s + self.stalled_s

    @property
    def images_per_s(self) -> float:
        """Return the images of all workers per second."""
        return self.workers * self.batch / self.seconds


def step(work: Work, cluster: Cluster, plan: Plan, workers: int) -> Step:
    """Return the step of ``workers`` workers."""
    shape = collectives.Shape(-(-workers // cluster.per_host), min(workers, cluster.per_host))
    crowding = cluster.host.crowding(shape.per_host)
    own_s = work.input_s + work.decode_s + work.forward_s + work.backward_s + work.update_s
    if workers > 1 and plan.scheme != "servers":
        own_s += work.wrapping_s
    computing_s = crowding * own_s
    waiting_s = computing_s * (slowest(workers, cluster.jitter) - 1)
    summing_s = _summing_s(work, cluster, plan, workers) if workers > 1 else 0.0
    going_s = computing_s + waiting_s + summing_s
    stalled_s = 0.0
    if cluster.storage_bytes_per_s is not None:
        read_s = workers * work.stored_bytes / cluster.storage_bytes_per_s
        stalled_s = max(0.0, read_s - going_s)
    return Step(workers, shape.hosts, work.batch, computing_s, waiting_s, summing_s, stalled_s)


def slowest(workers: int, jitter: float) -> float:
    """Return the median of the slowest of ``workers`` steps, in medians of one.

    Steps are taken as independent and lognormal; the median of the largest of n is exact then.
    """
    if workers < 2 or jitter <= 0:
        return 1.0
    return math.exp(jitter * _NORMAL.inv_cdf(0.5 ** (1 / workers)))


def work_of(calibration: records.Calibration, name: str, *, decodes: bool = False) -> Work:
    """Return the step of a calibrated profile.

    Args:
        calibration: What was measured.
        name: Which profile.
        decodes: Whether images are decoded in every step, as in the first epoch.

    Raises:
        KeyError: There is no such profile.
    """
    profile = calibration.profile(name)
    factor = fit.step_s(calibration, profile) / profile.step_s
    loader = calibration.loader if decodes else None
    return Work(
        batch=profile.batch,
        input_s=profile.input_s * factor,
        forward_s=profile.forward_s * factor,
        backward_s=profile.backward_s * factor,
        update_s=profile.update_s * factor,
        buckets=tuple(profile.buckets),
        wrapping_s=fit.wrapping_s(calibration, profile),
        decode_s=profile.batch / loader.images_per_s if loader else 0.0,
        stored_bytes=profile.batch * loader.image_bytes if loader else 0.0,
    )


def calibrated(constants: fit.Constants, per_host: int) -> Cluster:
    """Return the hosts that were calibrated, with so many workers on each."""
    return Cluster(
        host=constants.host,
        per_host=per_host,
        inside=constants.inside,
        across=constants.across or constants.inside,
        add_bytes_per_s=constants.add_bytes_per_s,
        jitter=constants.jitter,
    )


def _summing_s(work: Work, cluster: Cluster, plan: Plan, workers: int) -> float:
    host, inside = cluster.host, cluster.inside
    shape = collectives.Shape(-(-workers // cluster.per_host), min(workers, cluster.per_host))
    sharing = host.sharing(shape.per_host)
    local = inside.slowed(sharing)
    add = cluster.add_bytes_per_s / sharing
    wire = _wire(cluster, local)
    if plan.scheme == "servers":
        team = collectives.Team(workers, plan.servers, shape.per_host)
        return collectives.servers_s(work.gradient_bytes, team, wire, inside.delay_s)
    link = wire if shape.hosts > 1 else local
    sizes = [one.size_bytes for one in work.buckets]
    if plan.scheme == "two-level":
        sums_s = [collectives.two_level_s(size, shape, local, wire, add) for size in sizes]
    else:
        sums_s = [collectives.ring_s(size, workers, link, add) for size in sizes]
    ready = [one.ready for one in work.buckets]
    found = overlap.pipeline(work.backward_s * host.crowding(shape.per_host), ready, sums_s)
    # Without a processor to spare, what summing computes beside the backward pass slows it down.
    largest = max(sizes)
    stolen = 0.0 if host.spare(shape.per_host) else link.rate(largest) / local.rate(largest)
    return found.exposed_s + min(1.0, stolen) * found.hidden_s


def _wire(cluster: Cluster, local: collectives.Link) -> collectives.Link:
    """Return what joins hosts.

    A byte that crosses costs the processor what it costs inside; the slower of both counts.
    """
    across = cluster.across
    if across.rates:
        return across
    return dataclasses.replace(local, delay_s=across.delay_s, limit=across.bytes_per_s)
