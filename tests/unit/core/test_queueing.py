"""Who may begin, who waits, who gives way."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import admin_kinds, errors, meta, queueing


def claim(name: str, *, priority: int = 0, since_s: float = 0.0, **demand: int) -> queueing.Claim:
    key = meta.Key("Trial", "team-a", name)
    return queueing.Claim(name, key, priority, since_s, {"trials": 1, **demand})


def names(claims: tuple[queueing.Claim, ...]) -> list[str]:
    return [entry.uid for entry in claims]


def total(claims: list[queueing.Claim]) -> Mapping[str, int]:
    used: Mapping[str, int] = {}
    for entry in claims:
        used = queueing.plus(used, entry.demand)
    return used


def test_quota_is_read_in_the_units_of_a_demand() -> None:
    spec = admin_kinds.QueueSpec.model_validate(
        {
            "quota": [
                {"resource": "cpu", "amount": "1500m"},
                {"resource": "memory", "amount": "2Gi"},
                {"resource": "gpu", "amount": "8"},
            ]
        }
    )
    assert queueing.limits(spec) == {"cpu": 1500, "memory": 2**31, "gpu": 8}


@pytest.mark.parametrize(
    ("resource", "amount"), [("cpu", "much"), ("memory", "2Gib"), ("gpu", "1.5"), ("trials", "-1")]
)
def test_an_amount_that_is_none_names_its_field(resource: str, amount: str) -> None:
    spec = admin_kinds.QueueSpec.model_validate(
        {"quota": [{"resource": resource, "amount": amount}]}
    )
    with pytest.raises(errors.InvalidSpec) as caught:
        queueing.limits(spec)
    assert caught.value.field == f"spec.quota[{resource}].amount"


def test_a_priority_that_the_queue_does_not_have_lists_those_it_has() -> None:
    spec = admin_kinds.QueueSpec.model_validate(
        {"priorities": [{"name": "high", "value": 10}, {"name": "low", "value": -1}]}
    )
    assert queueing.priority(spec, None) == 0
    assert queueing.priority(spec, "high") == 10
    with pytest.raises(errors.InvalidSpec, match="high, low"):
        queueing.priority(spec, "urgent")


def test_a_large_one_in_front_holds_back_the_small_ones_behind() -> None:
    line = [claim("large", gpu=8), claim("small", since_s=1, gpu=1)]
    assert queueing.turn({"gpu": 8}, {"gpu": 4}, line) == queueing.Turn()
    assert names(queueing.turn({"gpu": 9}, {}, line).admit) == ["large", "small"]


def test_what_is_not_in_the_quota_is_not_limited() -> None:
    found = queueing.turn({"gpu": 1}, {"cpu": 10**9}, [claim("a", cpu=10**9, gpu=1)])
    assert names(found.admit) == ["a"]


def test_only_as_many_give_way_as_are_needed_and_the_youngest_of_the_lowest_first() -> None:
    held = [
        claim("old-low", priority=-5, since_s=1, gpu=4),
        claim("young-low", priority=-5, since_s=2, gpu=4),
        claim("middle", priority=0, since_s=0, gpu=8),
    ]
    urgent = [claim("urgent", priority=9, gpu=4)]
    found = queueing.turn({"gpu": 16}, total(held), urgent, below=held)
    assert names(found.evict) == ["young-low"]
    urgent = [claim("urgent", priority=9, gpu=8)]
    found = queueing.turn({"gpu": 16}, total(held), urgent, below=held)
    assert names(found.evict) == ["young-low", "old-low"]


def test_nobody_gives_way_in_vain() -> None:
    held = [claim("low", priority=-1, gpu=1), claim("peer", priority=9, gpu=8)]
    urgent = [claim("urgent", priority=9, gpu=4)]
    assert queueing.turn({"gpu": 9}, total(held), urgent, below=held).evict == ()


def test_what_is_lacking_is_said_with_what_is_free() -> None:
    quota, wanted = {"gpu": 8, "memory": 2**31, "cpu": 8000}, {"gpu": 4, "memory": 2**30}
    assert queueing.lacking(quota, {"gpu": 6, "memory": 2**31}, wanted) == (
        "4 gpu (2 of 8 free), 1Gi memory (0 of 2Gi free)"
    )
    assert queueing.lacking(quota, {}, wanted) == ""
    assert queueing.excess(quota, {"gpu": 9, "cpu": 1500}) == "9 gpu of 8"


CLAIMS = st.lists(
    st.builds(
        lambda number, priority, since, gpu, cpu: claim(
            f"t{number}", priority=priority, since_s=since, gpu=gpu, cpu=cpu
        ),
        st.integers(0, 10**6),
        st.integers(-2, 2),
        st.floats(0, 9),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    max_size=12,
    unique_by=lambda entry: entry.uid,
)


@given(CLAIMS, CLAIMS, st.integers(0, 12), st.integers(0, 12))
def test_a_turn_keeps_the_quota_and_the_order(
    held: list[queueing.Claim], waiting: list[queueing.Claim], gpu: int, cpu: int
) -> None:
    quota = {"gpu": gpu, "cpu": cpu}
    used = total(held)
    line = sorted(waiting, key=lambda entry: entry.order)
    found = queueing.turn(quota, used, line, below=held)
    assert list(found.admit) == line[: len(found.admit)]
    if found.admit:
        assert queueing.fits(quota, used, total(list(found.admit)))
    if len(found.admit) == len(line):
        assert found.evict == ()
        return
    first = line[len(found.admit)]
    after = queueing.plus(used, total(list(found.admit)))
    assert not queueing.fits(quota, after, first.demand)
    assert all(entry.priority < first.priority for entry in found.evict)
    if found.evict:
        room = queueing.minus(after, total(list(found.evict)))
        assert queueing.fits(quota, room, first.demand)
        for spared in found.evict:
            kept = queueing.plus(room, spared.demand)
            assert not queueing.fits(quota, kept, first.demand)
