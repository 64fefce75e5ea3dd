"""Metrics and logs: stored once, read along the lineage, followed without gap or repeat."""

from __future__ import annotations

import json
from typing import Any

LIVE = {"Accept": "text/event-stream"}


def form(trial: Any) -> tuple[Any, Any]:
    first, second = trial.agents()
    first.join()
    second.join()
    first.join()
    return first, second


def events(text: str) -> list[tuple[str, str]]:
    """The (id, line) pairs of an event stream, without its end."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "id" in fields:
            found.append((fields["id"], json.loads(fields["data"])["line"]))
    return found


def test_metrics_are_stored_once_and_acknowledged_up_to_the_gap(world: Any, trial: Any) -> None:
    first, _ = form(trial)
    assert first.metrics((0, 1, 1.0), (1, 2, 0.9)).json() == {"seq": 1}
    assert first.metrics((0, 1, 1.0), (1, 2, 0.9), (2, 3, 0.8)).json() == {"seq": 2}
    assert first.metrics((5, 6, 0.5)).json() == {"seq": 2}
    assert first.metrics((3, 4, 0.7), (4, 5, 0.6)).json() == {"seq": 5}
    series = world.admin().get(f"{trial.path}/metrics").json()["series"]
    assert series[0]["steps"] == [1, 2, 3, 4, 5, 6]
    assert series[0]["values"] == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert world.facts.trial(trial.uid).metrics == {"loss": 0.5}


def test_points_must_ascend(trial: Any) -> None:
    first, _ = form(trial)
    answer = first.metrics((1, 1, 1.0), (0, 1, 1.0))
    assert answer.status_code == 422
    assert answer.json()["field"] == "points"


def test_work_that_was_done_again_is_hidden(world: Any, trial: Any) -> None:
    first, second = form(trial)
    first.metrics(*[(step, step, 1.0) for step in range(1, 6)])
    first.beat(step=5)
    first.checkpoint(3)
    second.exit(139)
    first.join()
    second.join()
    first.join()
    first.metrics(*[(step, step, 2.0) for step in range(4, 7)])
    # Spooled points of the first generation may come late and stay hidden all the same.
    first.generation = 1
    first.metrics((6, 6, 9.0))
    series = world.admin().get(f"{trial.path}/metrics").json()["series"][0]
    assert series["steps"] == [1, 2, 3, 4, 5, 6]
    assert series["values"] == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert series["generations"] == [1, 1, 1, 2, 2, 2]


def test_metrics_are_read_by_name_and_thinned(world: Any, trial: Any) -> None:
    first, _ = form(trial)
    first.metrics(*[(step, step, float(step)) for step in range(500)])
    client = world.admin()
    found = client.get(f"{trial.path}/metrics", params={"names": "loss", "max_points": 5}).json()
    assert found["series"][0]["steps"] == [0, 125, 250, 374, 499]
    assert found["series"][0]["total"] == 500
    none = client.get(f"{trial.path}/metrics", params={"names": "accuracy"}).json()
    assert none["series"] == []


def test_logs_are_stored_once(world: Any, trial: Any) -> None:
    first, second = form(trial)
    assert first.logs((0, "a"), (1, "b")).json() == {"seq": 1}
    assert first.logs((0, "a"), (1, "b"), (2, "c")).json() == {"seq": 2}
    assert second.logs((0, "z")).json() == {"seq": 0}
    client = world.admin()

    def lines(**params: Any) -> list[str]:
        text = client.get(f"{trial.path}/logs", params=params).text
        return [json.loads(line)["line"] for line in text.splitlines()]

    assert lines() == ["a", "b", "c", "z"]
    assert lines(rank=0) == ["a", "b", "c"]
    assert lines(tail=2) == ["c", "z"]
    assert lines(tail=2, rank=0) == ["b", "c"]
    assert lines(tail=0) == []


def test_a_follower_that_comes_back_misses_and_repeats_nothing(world: Any, trial: Any) -> None:
    first, _ = form(trial)
    first.logs((0, "a"), (1, "b"))
    first.logs((2, "c"))
    trial.end()
    client = world.admin()
    whole = client.get(f"{trial.path}/logs", headers=LIVE)
    assert whole.headers["content-type"].startswith("text/event-stream")
    seen = events(whole.text)
    assert [line for _, line in seen] == ["a", "b", "c"]
    assert whole.text.endswith("event: end\ndata: {}\n\n")
    for count, (place, _) in enumerate(seen, start=1):
        rest = client.get(f"{trial.path}/logs", headers={**LIVE, "Last-Event-ID": place})
        assert events(rest.text) == seen[count:]
    tail = client.get(f"{trial.path}/logs", headers=LIVE, params={"tail": 1})
    assert events(tail.text) == seen[-1:]


def test_a_follower_gets_what_arrives_while_it_waits(world: Any, trial: Any, at_once: Any) -> None:
    first, _ = form(trial)
    first.logs((0, "early"))
    client = world.admin()

    def follow() -> str:
        return str(client.get(f"{trial.path}/logs", params={"follow": True}).text)

    def write() -> None:
        first.logs((1, "late"))
        trial.end()

    text, _ = at_once(follow, write)
    assert [line for _, line in events(text)] == ["early", "late"]


def test_a_wrong_place_is_named(world: Any, trial: Any) -> None:
    answer = world.admin().get(f"{trial.path}/logs", headers={**LIVE, "Last-Event-ID": "x"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "Last-Event-ID"


def test_checkpoints_are_listed_newest_first(world: Any, trial: Any) -> None:
    first, _ = form(trial)
    first.checkpoint(10)
    first.checkpoint(20)
    listed = world.admin().get(f"{trial.path}/checkpoints").json()["items"]
    assert [item["step"] for item in listed] == [20, 10]
    assert listed[0]["size_bytes"] == 7


def test_artifacts_of_the_newest_generation_are_shown(world: Any, trial: Any) -> None:
    first, _ = form(trial)
    nobody, client = world.anonymous(), world.admin()
    for generation, data in ((1, b"old"), (2, b"new!")):
        asked = first.client.post(
            f"/api/v1/internal/trials/{trial.uid}/artifacts/urls",
            json={**first.envelope(), "generation": generation, "files": ["model.safetensors"]},
        ).json()
        assert nobody.put(asked["urls"]["model.safetensors"], content=data).status_code == 201
    listed = client.get(f"{trial.path}/artifacts").json()["items"]
    assert listed == [{"name": "model.safetensors", "size": 4, "attempt": 1, "generation": 2}]
    answer = client.get(f"{trial.path}/artifacts/model.safetensors")
    assert answer.content == b"new!"
    assert answer.headers["content-disposition"] == "attachment"
    assert client.get(f"{trial.path}/artifacts/other").status_code == 404
