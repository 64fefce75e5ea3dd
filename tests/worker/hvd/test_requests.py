"""What ranks agree on: requests meet by name in any order, joins and mismatches end well."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile_trainer.hvd import requests
from quintile_trainer.hvd.requests import Kind, Request

JOIN = Request(Kind.JOIN, Kind.JOIN)
SHUTDOWN = Request(Kind.SHUTDOWN, Kind.SHUTDOWN)


def reduce(name: str, shape: tuple[int, ...] = (2,), **fields: object) -> Request:
    return Request(name, Kind.ALLREDUCE, "float32", "cpu", (shape,), **fields)  # type: ignore[arg-type]


@given(
    st.lists(
        st.builds(
            Request,
            name=st.text(max_size=8),
            kind=st.sampled_from(Kind),
            dtype=st.sampled_from(["float32", ""]),
            device=st.just("cpu"),
            shapes=st.lists(st.lists(st.integers(0, 9)).map(tuple), max_size=3).map(tuple),
            op=st.sampled_from(list(requests.OPERATIONS)),
            prescale=st.floats(allow_nan=False, allow_infinity=False),
            root=st.integers(-1, 5),
            splits=st.lists(st.integers(0, 9)).map(tuple),
        )
    ).map(tuple)
)
def test_lists_survive_the_way(asked: tuple[Request, ...]) -> None:
    assert requests.decode(requests.encode(asked)) == asked


@given(st.integers(1, 4), st.integers(0, 6), st.randoms(use_true_random=False))
def test_any_orders_meet_and_every_rank_joins(size: int, names: int, chance: random.Random) -> None:
    """Each rank asks for its names in its own order, some at a time; some ranks for fewer."""
    counts = [chance.randint(0, names) for _ in range(size)]
    to_ask = []
    for count in counts:
        mine = [reduce(f"t{number}") for number in range(count)]
        chance.shuffle(mine)
        to_ask.append([*mine, JOIN])
    pending: list[list[Request]] = [[] for _ in range(size)]
    done: list[set[str]] = [set() for _ in range(size)]
    for _ in range(1000):
        for rank in range(size):
            # A rank that waits in join() asks for nothing more; the others go on some time.
            if to_ask[rank] and (not pending[rank] or chance.random() < 0.5):
                pending[rank].append(to_ask[rank].pop(0))
        if not all(pending):
            continue
        agreement = requests.agree(pending)
        if agreement.all_joined:
            break
        assert not agreement.refused
        for call in agreement.calls:
            name = call.request.name
            for rank, request in enumerate(call.by_rank):
                assert (request is None) == (rank in agreement.joined)
                if request is not None:
                    pending[rank].remove(request)
                    done[rank].add(name)
    assert [len(found) for found in done] == counts


MISMATCHES = {
    "shape": (reduce("a"), reduce("a", (3,))),
    "op": (reduce("a"), reduce("a", op=requests.AVERAGE)),
    "prescale": (reduce("a"), reduce("a", prescale=0.5)),
    "dtype": (reduce("a"), Request("a", Kind.ALLREDUCE, "int64", "cpu", ((2,),))),
    "kind": (reduce("a"), Request("a", Kind.BROADCAST, "float32", "cpu", ((2,),), root=0)),
    "root": tuple(
        Request("a", Kind.BROADCAST, "float32", "cpu", ((2,),), root=root) for root in (0, 1)
    ),
}


@pytest.mark.parametrize(("what", "pair"), MISMATCHES.items(), ids=MISMATCHES)
def test_a_mismatch_is_refused_on_every_rank(what: str, pair: tuple[Request, ...]) -> None:
    agreement = requests.agree([[pair[0]], [pair[1]]])
    assert not agreement.calls
    assert f"a: {what} is" in agreement.refused["a"]
    assert "on rank 1" in agreement.refused["a"]


def test_rows_may_differ_where_they_are_joined() -> None:
    first = Request("a", Kind.ALLGATHER, "float32", "cpu", ((2, 3),))
    second = Request("a", Kind.ALLGATHER, "float32", "cpu", ((5, 3),))
    assert len(requests.agree([[first], [second]]).calls) == 1
    third = Request("a", Kind.ALLGATHER, "float32", "cpu", ((5, 4),))
    assert requests.agree([[first], [third]]).refused


def test_only_reductions_go_on_after_a_join() -> None:
    gather = Request("a", Kind.ALLGATHER, "float32", "cpu", ((2,),))
    assert "join()" in requests.agree([[gather], [JOIN]]).refused["a"]
    assert requests.agree([[reduce("b")], [JOIN]]).calls


def test_requests_to_a_rank_that_has_left_are_refused() -> None:
    agreement = requests.agree([[reduce("a")], [SHUTDOWN]])
    assert "rank 1 has shut Horovod down" in agreement.refused["a"]
    assert requests.agree([[SHUTDOWN], [SHUTDOWN]]).all_shut


def test_reductions_of_a_kind_are_fused_up_to_a_limit() -> None:
    asked = [
        reduce("a", (4,)),
        reduce("b", (4,)),
        reduce("c", (4,)),
        reduce("d", op=requests.MAXIMUM),
    ]
    calls = requests.agree([asked, asked]).calls
    fused = [[call.request.name for call in run] for run in requests.fuse(calls, limit=8)]
    assert fused == [["a", "b"], ["c"], ["d"]]


def test_who_is_missing_is_said() -> None:
    words = requests.waiting([[reduce("a")], [reduce("b")]])
    assert words == "a waits for ranks 1, which ask for something else"
