"""Which of the trials that wait in a queue may begin, and which must give way. Pure.

The order is by priority, then by age. It is strict: a trial that does not fit yet holds back the
ones behind it, so that a large one is never starved by a stream of small ones. Called by
``quintile_operator.admission``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from quintile.core import admin_kinds, errors, meta, quantities, runplan

Demand = Mapping[str, int]
"""Amount by resource: thousandths of a core, bytes, GPUs, trials."""


@dataclass(frozen=True)
class Claim:
    """What one trial asks of its queue.

    ``since_s``: when it was created, in seconds since the epoch.
    """

    uid: str
    key: meta.Key
    priority: int
    since_s: float
    demand: Demand = field(hash=False)

    @property
    def order(self) -> tuple[int, float, str]:
        """Return what claims are sorted by: the smallest goes first."""
        return (-self.priority, self.since_s, self.uid)


@dataclass(frozen=True)
class Turn:
    """What happens next in a queue: who begins, and who gives way for whoever comes after."""

    admit: tuple[Claim, ...] = ()
    evict: tuple[Claim, ...] = ()


def demand(run: runplan.RunPlan) -> Demand:
    """Return what all replicas of an attempt hold together."""
    return {
        "cpu": sum(replica.cpu_millis for replica in run.replicas),
        "memory": sum(replica.memory_bytes for replica in run.replicas),
        "gpu": sum(replica.gpus for replica in run.replicas),
        "trials": 1,
    }


def limits(spec: admin_kinds.QueueSpec) -> Demand:
    """Return the quota in the units of ``Demand``.

    Raises:
        InvalidSpec: An amount cannot be read.
    """
    return {entry.resource: _amount(entry) for entry in spec.quota}


def priority(spec: admin_kinds.QueueSpec, name: str | None) -> int:
    """Return the value of a priority; 0 without a name.

    Raises:
        InvalidSpec: The queue has no such priority.
    """
    if name is None:
        return 0
    for known in spec.priorities:
        if known.name == name:
            return known.value
    raise errors.InvalidSpec(
        f"The queue has no priority {name}.",
        hint=f"Known are: {', '.join(entry.name for entry in spec.priorities) or 'none'}.",
        field="spec.priority",
    )


def excess(quota: Demand, wanted: Demand) -> str:
    """Return what a claim asks for beyond the whole quota, empty when it can fit at all."""
    over = [
        f"{shown(name, wanted[name])} {name} of {shown(name, most)}"
        for name, most in quota.items()
        if wanted.get(name, 0) > most
    ]
    return ", ".join(over)


def turn(
    quota: Demand,
    used: Demand,
    waiting: Iterable[Claim],
    *,
    below: Iterable[Claim] = (),
) -> Turn:
    """Return who begins now, in order, and who gives way to the first that does not fit.

    Args:
        quota: The most of each resource; what is not named is not limited.
        used: What those that hold a place hold together.
        waiting: Who waits and could fit at all, sorted by ``Claim.order``; read as far as needed.
        below: Who holds a place and may lose it to a higher priority.
    """
    begin: list[Claim] = []
    for claim in waiting:
        if not fits(quota, used, claim.demand):
            return Turn(tuple(begin), _victims(quota, used, below, claim))
        used = plus(used, claim.demand)
        begin.append(claim)
    return Turn(tuple(begin))


def plus(first: Demand, second: Demand) -> dict[str, int]:
    """Return the sum by resource."""
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}


def minus(first: Demand, second: Demand) -> dict[str, int]:
    """Return the difference by resource."""
    return {name: first.get(name, 0) - second.get(name, 0) for name in {**first, **second}}


def fits(quota: Demand, used: Demand, wanted: Demand) -> bool:
    """Return whether a claim fits beside what is in use."""
    return all(used.get(name, 0) + wanted.get(name, 0) <= most for name, most in quota.items())


def lacking(quota: Demand, used: Demand, wanted: Demand) -> str:
    """Return what a claim waits for, as ``4 gpu (2 of 8 free)``; empty when it fits."""
    found = []
    for name, most in quota.items():
        free = most - used.get(name, 0)
        if wanted.get(name, 0) > free:
            room = f"{shown(name, max(0, free))} of {shown(name, most)} free"
            found.append(f"{shown(name, wanted[name])} {name} ({room})")
    return ", ".join(found)


def shown(resource: str, amount: int) -> str:
    """Return an amount as people write it."""
    if resource == "cpu":
        return quantities.cpu_text(amount)
    return quantities.memory_text(amount) if resource == "memory" else str(amount)


def _victims(quota: Demand, used: Demand, held: Iterable[Claim], claim: Claim) -> tuple[Claim, ...]:
    """Return the fewest-privileged holders whose places are enough, or none."""
    below = sorted(
        (other for other in held if other.priority < claim.priority),
        key=lambda other: (other.priority, -other.since_s, other.uid),
    )
    left = used
    chosen: list[Claim] = []
    for other in below:
        chosen.append(other)
        left = minus(left, other.demand)
        if fits(quota, left, claim.demand):
            return tuple(_spare(quota, left, chosen, claim))
    return ()


def _spare(quota: Demand, left: Demand, chosen: Sequence[Claim], claim: Claim) -> list[Claim]:
    """Return ``chosen`` without those whose places are not needed after all."""
    needed = list(chosen)
    for other in reversed(chosen):
        kept = plus(left, other.demand)
        if fits(quota, kept, claim.demand):
            needed.remove(other)
            left = kept
    return needed


def _amount(entry: admin_kinds.Quota) -> int:
    field_path = f"spec.quota[{entry.resource}].amount"
    if entry.resource == "cpu":
        return quantities.cpu_millis(entry.amount, field=field_path)
    if entry.resource == "memory":
        return quantities.memory_bytes(entry.amount, field=field_path)
    if not entry.amount.isdecimal():
        raise errors.InvalidSpec(
            f"{entry.amount!r} is not a number of {entry.resource}.",
            hint="Use a whole number, as 8.",
            field=field_path,
        )
    return int(entry.amount)
