"""Ranks and hosts from what launchers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile_trainer.hvd import places
from quintile_trainer.hvd.places import Seat

SEATS = {
    "nothing": ({}, Seat(0, 1, 0)),
    "torchrun": ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Seat(3, 4, 1)),
    "no local rank": ({"RANK": "3", "WORLD_SIZE": "4"}, Seat(3, 4, None)),
    "horovodrun": (
        {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "0", "RANK": "0"},
        Seat(1, 2, 0),
    ),
    "mpirun from within a rank": (
        {
            "OMPI_COMM_WORLD_RANK": "1",
            "OMPI_COMM_WORLD_SIZE": "2",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "RANK": "0",
            "WORLD_SIZE": "1",
        },
        Seat(1, 2, 1),
    ),
}


@pytest.mark.parametrize(("variables", "seat"), SEATS.values(), ids=SEATS)
def test_seats(variables: dict[str, str], seat: Seat) -> None:
    assert places.read_seat(variables) == seat


@pytest.mark.parametrize("rank", ["2", "-1"])
def test_numbers_that_do_not_fit(rank: str) -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        places.read_seat({"RANK": rank, "WORLD_SIZE": "2"})


def test_the_example_of_the_documentation() -> None:
    """Two hosts, two processes on one and one on the other."""
    found = [places.place(rank, ["a", "a", "b"]) for rank in range(3)]
    assert [(one.local_rank, one.local_size) for one in found] == [(0, 2), (1, 2), (0, 1)]
    assert [(one.cross_rank, one.cross_size) for one in found] == [(0, 2), (0, 1), (1, 2)]


def test_ranks_numbered_by_host_need_no_host_names() -> None:
    seats = [Seat(0, 4, 0), Seat(1, 4, 1), Seat(2, 4, 0), Seat(3, 4, 1)]
    keys = [places.host_key(seat, "same-name") for seat in seats]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert places.host_key(Seat(0, 2, None), "name") == "name"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_places_are_consistent(hosts: list[str]) -> None:
    found = [places.place(rank, hosts) for rank in range(len(hosts))]
    for host in set(hosts):
        local = [one for one in found if hosts[one.rank] == host]
        assert [one.local_rank for one in local] == list(range(len(local)))
        assert {one.local_size for one in local} == {len(local)}
    for number in {one.local_rank for one in found}:
        across = [one for one in found if one.local_rank == number]
        assert sorted(one.cross_rank for one in across) == list(range(len(across)))
        assert {one.cross_size for one in across} == {len(across)}
