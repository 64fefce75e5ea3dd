"""Attempts that find no room: all or none of their pods hold a node."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from quintile.core import meta
from quintile_operator import cluster_views, placement
from quintile_operator.manifests import marks

NOW_S = 1_000_000.0
PLACE = cluster_views.Place("team", "digits-t0", "u", 1, "worker")


def job(name: str = "job", **changes: Any) -> cluster_views.JobView:
    made = cluster_views.JobView(PLACE, name, name, 1)
    return dataclasses.replace(made, **changes)


def pod(since_s: float | None = None, *, name: str = "pod") -> cluster_views.PodView:
    """A pod that has been without a node since then; with a node by default."""
    unscheduled = (NOW_S + since_s, "0/1 nodes") if since_s is not None else None
    made = cluster_views.PodView(PLACE, name, name, "job", 0, "", "Pending")
    return dataclasses.replace(made, unscheduled=unscheduled)


class Requests:
    """Takes the patches of a placement."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, meta.Document]] = []

    def patch(self, path: str, body: meta.Document, *, manager: str) -> meta.Document:
        self.patches.append((path.rpartition("/")[2], body))
        return body


@pytest.fixture
def requests() -> Any:
    return Requests()


def kept(
    requests: Any, jobs: list[cluster_views.JobView], *pods: cluster_views.PodView, now_s: float
) -> list[meta.Document]:
    return list(placement.Placement(requests, 600.0).keep(jobs, pods, now_s=now_s))


def test_a_pod_without_a_node_takes_all_roles_of_its_attempt_back(requests: Any) -> None:
    roles = [job(), job("servers")]
    assert not kept(requests, roles, pod(-599), now_s=NOW_S)
    assert len(kept(requests, roles, pod(-600), now_s=NOW_S)) == 2
    assert [name for name, _ in requests.patches] == ["job", "servers"]
    body = requests.patches[0][1]
    assert body["spec"] == {"suspend": True}
    notes = body["metadata"]["annotations"]
    assert (notes[marks.WORDS], notes[marks.TRIES]) == ("0/1 nodes", "1")
    assert notes[marks.RESUME] == str(round(NOW_S + placement.pause_s(1, "u")))


def test_who_holds_a_part_of_its_nodes_gives_them_back_soon(requests: Any) -> None:
    assert not kept(requests, [job()], pod(-44), pod(name="b"), now_s=NOW_S)
    assert kept(requests, [job()], pod(-45), pod(name="b"), now_s=NOW_S)


def test_an_elastic_attempt_goes_on_with_those_that_it_has(requests: Any) -> None:
    elastic = [job(elastic=True)]
    assert not kept(requests, elastic, pod(-9999), pod(name="b"), now_s=NOW_S)
    assert kept(requests, elastic, pod(-9999), now_s=NOW_S)


def test_pods_that_end_wait_for_nothing(requests: Any) -> None:
    leaving = dataclasses.replace(pod(-9999), gone_by_s=NOW_S)
    assert not kept(requests, [job()], leaving, now_s=NOW_S)


def test_it_is_tried_again_after_a_pause_that_doubles(requests: Any) -> None:
    held = [job(suspended=True, words="w", resume_s=NOW_S + 1, tries=1)]
    assert not kept(requests, held, now_s=NOW_S)
    assert len(kept(requests, held, now_s=NOW_S + 1)) == 1
    assert requests.patches[0][1]["spec"] == {"suspend": False}
    pauses = [placement.pause_s(tries) for tries in range(1, 8)]
    assert pauses[:3] == [30.0, 60.0, 120.0] and pauses[-1] == placement.LONGEST_PAUSE_S


def test_a_job_that_a_person_suspended_stays_so(requests: Any) -> None:
    assert not kept(requests, [job(suspended=True)], now_s=NOW_S)


def test_trials_that_hindered_each_other_do_not_meet_again() -> None:
    pauses = {placement.pause_s(2, f"trial-{number}") for number in range(20)}
    assert len(pauses) > 15 and all(60 <= found <= 120 for found in pauses)
