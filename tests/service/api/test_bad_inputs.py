"""Bad input: each row is a request, its status, the field it names and words of its message."""

from __future__ import annotations

from typing import Any

import pytest

P = "/api/v1/projects/default"
E = f"{P}/experiments"
BUILTIN = {"builtin": {"model": "resnet8"}}


def spec(**changes: Any) -> dict[str, Any]:
    return {"name": "digits", "spec": {"estimator": BUILTIN, **changes}}


ROWS: dict[str, tuple[str, str, Any, int, str, str]] = {
    "no body": ("POST", E, None, 422, "", "missing"),
    "not a mapping": ("POST", E, [1], 422, "", "valid dictionary"),
    "no name": ("POST", E, {"spec": {"estimator": BUILTIN}}, 422, "name", "is missing"),
    "unknown top field": ("POST", E, {**spec(), "sepc": {}}, 422, "sepc", "not known"),
    "bad name": ("POST", E, {**spec(), "name": "My Run"}, 422, "metadata.name", "'My Run'"),
    "long name": ("POST", E, {**spec(), "name": "a" * 41}, 422, "metadata.name", "at most 40"),
    "unknown field": ("POST", E, spec(runn={}), 422, "spec.runn", "not known"),
    "no estimator": ("POST", E, {"name": "a", "spec": {}}, 422, "spec.estimator", "is missing"),
    "two estimators": (
        "POST",
        E,
        spec(estimator={**BUILTIN, "script": {"bundle": "0" * 64, "entry": "a.py"}}),
        422,
        "spec.estimator",
        "exactly one of builtin, functions, script, labelingRound is expected, got 2",
    ),
    "unknown model": (
        "POST",
        E,
        spec(estimator={"builtin": {"model": "resnet9000"}}),
        422,
        "spec.estimator.builtin.model",
        "resnet9000",
    ),
    "no workers": (
        "POST",
        E,
        spec(run={"workers": {"replicas": 0}}),
        422,
        "spec.run.workers.replicas",
        "greater than or equal to 1, got 0",
    ),
    "too many workers": (
        "POST",
        E,
        spec(run={"workers": {"replicas": 9999}}),
        422,
        "spec.run.workers.replicas",
        "got 9999",
    ),
    "a number that is none": (
        "POST",
        E,
        spec(run={"workers": {"replicas": "many"}}),
        422,
        "spec.run.workers.replicas",
        "'many'",
    ),
    "single with two workers": (
        "POST",
        E,
        spec(run={"mode": "single", "workers": {"replicas": 2}}),
        422,
        "spec.run",
        "mode single runs one worker",
    ),
    "unknown mode": ("POST", E, spec(run={"mode": "magic"}), 422, "spec.run.mode", "'magic'"),
    "memory without a unit we know": (
        "POST",
        E,
        spec(run={"resources": {"memory": "2 bananas"}}),
        422,
        "spec.run.resources.memory",
        "bananas",
    ),
    "reserved variable": (
        "POST",
        E,
        spec(estimator={**BUILTIN, "env": [{"name": "QUINTILE_X", "value": "1"}]}),
        422,
        "spec.estimator",
        "reserved",
    ),
    "doubled hyperparameter": (
        "POST",
        E,
        spec(hparams=[{"name": "lr", "value": "1"}, {"name": "lr", "value": "2"}]),
        422,
        "spec",
        "hparams holds lr more than once",
    ),
    "elastic run": (
        "POST",
        E,
        spec(run={"mode": "mpi", "workers": {"replicas": 2, "min": 1}}),
        422,
        "spec.run.workers.min",
        "elastic run, but mode is mpi",
    ),
    "bundle digest too short": (
        "POST",
        E,
        spec(estimator={"script": {"bundle": "abc", "entry": "a.py"}}),
        422,
        "spec.estimator.script.bundle",
        "'abc'",
    ),
    "bundle that nobody sent": (
        "POST",
        E,
        spec(estimator={"script": {"bundle": "0" * 64, "entry": "a.py"}}),
        422,
        "spec.estimator",
        "There is no code bundle",
    ),
    "document of another project": (
        "POST",
        E,
        {"kind": "Experiment", "metadata": {"name": "a", "namespace": "b"}, "spec": {}},
        422,
        "metadata.namespace",
        "of project 'b'",
    ),
    "document of another kind": (
        "POST",
        E,
        {"kind": "Trial", "metadata": {"name": "a"}, "spec": {"estimator": BUILTIN}},
        422,
        "kind",
        "'Experiment'",
    ),
    "metadata that is text": ("POST", E, {"metadata": "x"}, 422, "metadata", "mapping"),
    "no such experiment": ("GET", f"{E}/nope", None, 404, "", "nope"),
    "no such trial": ("GET", f"{P}/trials/nope/logs", None, 404, "", "nope"),
    "no such project": ("GET", "/api/v1/projects/no/trials", None, 404, "", "'no'"),
    "page too large": ("GET", f"{E}?limit=501", None, 422, "limit", "got '501'"),
    "cursor of nowhere": ("GET", f"{E}?cursor=zzz", None, 422, "cursor", "not one that"),
    "bundle of other bytes": (
        "PUT",
        f"/api/v1/bundles/{'0' * 64}",
        None,
        422,
        "sha256",
        "not 000000000000",
    ),
    "bundle name that is none": ("PUT", "/api/v1/bundles/abc", None, 422, "sha256", "'abc'"),
    "role that is none": (
        "PUT",
        f"{P}/members/ada",
        {"role": "king"},
        422,
        "role",
        "'king'",
    ),
    "token for a thousand days": (
        "POST",
        "/api/v1/tokens",
        {"name": "t", "days": 1000},
        422,
        "days",
        "got 1000",
    ),
    "project name with a slash": ("POST", "/api/v1/projects", {"name": "a/b"}, 422, "name", "a/b"),
    "user name with a path": ("POST", "/api/v1/users", {"name": "../x"}, 422, "name", "../x"),
    "no such user": (
        "PUT",
        f"{P}/members/nobody",
        {"role": "viewer"},
        404,
        "",
        "no user 'nobody'",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_bad_input_says_what_where_and_why(
    world: Any, row: tuple[str, str, Any, int, str, str]
) -> None:
    method, path, body, status, field, words = row
    client = world.admin()
    answer = client.request(method, path, **({} if body is None else {"json": body}))
    problem = answer.json()
    assert answer.status_code == status, problem
    assert words in problem["detail"], problem
    assert problem["field"] == field, problem
    assert client.get(E).json()["items"] == []


def test_broken_json_is_named(world: Any) -> None:
    answer = world.admin().post(
        E, content=b'{"name": ', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "valid JSON" in answer.json()["hint"]


def test_a_duplicate_name_is_a_conflict(world: Any) -> None:
    world.experiment("digits")
    answer = world.admin().post(E, json=spec())
    assert answer.status_code == 409
    assert "digits" in answer.json()["detail"]


def test_every_bad_field_is_listed(world: Any) -> None:
    body = spec(run={"mode": "magic", "workers": {"replicas": 0}}, colour="red")
    problem = world.admin().post(E, json=body).json()
    assert {entry["field"] for entry in problem["errors"]} == {
        "spec.run.mode",
        "spec.run.workers.replicas",
        "spec.colour",
    }
    assert "(2 more)" in problem["detail"]


AGENT_ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no boot id": ("heartbeat", {"boot_id": ""}, "boot_id"),
    "attempt 0": ("heartbeat", {"attempt": 0}, "attempt"),
    "unknown field": ("heartbeat", {"colour": "red"}, "colour"),
    "a port that is none": (
        "join",
        {"members": {"worker": 1}, "host": "h", "port": 70_000},
        "port",
    ),
    "a rank that does not exist": ("exits", {"rank": 9, "exit_code": 0}, "rank"),
    "a file name with a path": (
        "checkpoints/urls",
        {"step": 1, "files": ["../../etc/passwd"]},
        "[0]",
    ),
    "a hidden file name": ("checkpoints/urls", {"step": 1, "files": ["..", "a"]}, "[0]"),
    "an artifact name with a path": ("artifacts/urls", {"files": ["a/b"]}, "files[0]"),
}


@pytest.mark.parametrize("row", AGENT_ROWS.values(), ids=AGENT_ROWS)
def test_bad_messages_of_agents(trial: Any, row: tuple[str, dict[str, Any], str]) -> None:
    route, changes, field = row
    first, second = trial.agents()
    first.join()
    second.join()
    first.join()
    answer = first.post(route, **changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field
