"""A worker's token opens its own trial and nothing of another, on every route of workers."""

from __future__ import annotations

from typing import Any

import pytest

OWN = "/api/v1/internal/trials/{uid}/"
BUNDLE = "/api/v1/internal/bundles/{sha256}"
ENVELOPE = {"attempt": 1, "generation": 1, "boot_id": "boot-a-0", "role": "worker", "index": 0}
BODIES: dict[str, dict[str, Any]] = {
    "join": {"members": {"worker": 2}, "host": "127.0.0.1", "port": 1},
    "heartbeat": {},
    "exits": {"rank": 0, "exit_code": 1},
    "metrics": {"rank": 0, "points": [{"seq": 9, "step": 9, "time": 1.0, "values": {"loss": 0}}]},
    "logs": {"rank": 0, "lines": [{"seq": 9, "time": 1.0, "line": "I was here"}]},
    "checkpoints/urls": {"step": 10, "files": ["model.safetensors"]},
    "checkpoints": {"step": 10, "manifest_sha256": "0" * 64},
    "artifacts/urls": {"files": ["model.bin"]},
    "dataset": {},
}


def routes(app: Any) -> dict[str, set[str]]:
    """Methods by what follows the trial's uid, of every route that workers call."""
    found: dict[str, set[str]] = {}
    for path, item in app.openapi()["paths"].items():
        if path.startswith(OWN):
            found[path.removeprefix(OWN)] = {method.upper() for method in item}
    return found


def test_the_table_has_every_route_of_workers(world: Any) -> None:
    assert routes(world.app).keys() == BODIES.keys()
    internal = {path for path in world.app.openapi()["paths"] if "/internal/" in path}
    rest = {path for path in internal if not path.startswith(OWN)}
    assert {path for path in rest if "/facts" not in path} == {BUNDLE}


@pytest.mark.parametrize("route", BODIES)
def test_no_route_of_another_trial_opens(world: Any, route: str) -> None:
    victim, stranger = world.trial("victim"), world.trial("stranger")
    for agent in victim.agents():
        agent.join()
    first = victim.agent()
    first.join()
    first.beat(step=5)
    path = OWN.replace("{uid}", victim.uid) + route
    before = world.facts.trial(victim.uid), world.objects.list("")
    for method in routes(world.app)[route]:
        for attempt in (1, 2):
            client = stranger.agent(attempt=attempt).client
            body = {**ENVELOPE, "attempt": attempt, "seq": 99, **BODIES[route]}
            answer = client.request(method, f"{path}?name=digits&version=1", json=body)
            assert answer.status_code == 403, (method, route, answer.text)
            assert "does not open trial" in answer.json()["detail"]
    assert world.facts.trial(victim.uid) == before[0]
    assert list(world.objects.list("")) == list(before[1])


def test_a_bundle_of_another_trial_does_not_open(world: Any) -> None:
    sha = "a" * 64
    block = {"script": {"bundle": sha, "entry": "train.py"}}
    world.trial("victim", **block)
    stranger = world.trial("stranger")
    answer = stranger.agent().client.get(BUNDLE.replace("{sha256}", sha))
    assert answer.status_code == 403, answer.text


def test_a_message_cannot_name_another_trial(world: Any) -> None:
    """Whoever speaks is taken from the token: an envelope has no place for anybody else."""
    victim, stranger = world.trial("victim"), world.trial("stranger")
    stranger.agent().post("join", trial_uid=victim.uid, members={"worker": 2}, host="a", port=1)
    assert world.facts.trial(victim.uid).attempt == 0


def test_urls_for_files_lie_below_the_own_trial(world: Any) -> None:
    victim, stranger = world.trial("victim"), world.trial("stranger")
    agent = stranger.agent()
    for name in (f"../{victim.uid}/model.bin", f"/{victim.uid}/model.bin", "..", "a/../../b"):
        answer = agent.post("artifacts/urls", files=[name])
        assert answer.status_code == 422, (name, answer.text)
    urls = agent.post("artifacts/urls", files=["model.bin"]).json()["urls"]
    assert all(stranger.uid in url and victim.uid not in url for url in urls.values())


def test_a_worker_reads_no_facts(world: Any) -> None:
    client = world.trial("stranger").agent().client
    paths = [path for path in world.app.openapi()["paths"] if "/internal/facts" in path]
    assert paths
    for path in paths:
        answer = client.get(path.replace("{uid}", "any"))
        assert answer.status_code in (401, 403), (path, answer.text)
