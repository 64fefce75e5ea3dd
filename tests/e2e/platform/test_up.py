"""``quintile up`` as a process: ready, signed in, exclusive, stopped, killed, started again."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest

from quintile.testing import digit_imports, instances

DEADLINE_S = 180.0
SPEC: dict[str, Any] = {
    "dataset": {"name": digit_imports.DATASET, "version": 1},
    "estimator": {"builtin": {"model": "resnet8"}},
    "hparams": [{"name": "iterations", "value": "1500"}],
    "run": {"mode": "single", "deterministic": True},
    "checkpoint": {"everySteps": 50},
    "telemetry": {"summaryEverySteps": 10},
}


@pytest.fixture
def instance(tmp_path: pathlib.Path) -> Iterator[instances.Instance]:
    with instances.Instance(tmp_path / "home") as found:
        yield found


def start_another(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quintile_embedded", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := found()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.05)
    return value


def link_in(log: str) -> str:
    return re.findall(r"open +(http://\S+/login\?token=\S+)", log)[-1]


def test_it_serves_the_page_and_signs_in_once(instance: instances.Instance) -> None:
    page = httpx.get(f"{instance.url}/")
    assert page.status_code == 200
    assert "<title>Quintile</title>" in page.text
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    link = link_in(instance.log.read_text())
    assert link.startswith(instance.url)
    with httpx.Client(headers={"Accept": "text/html"}) as person:
        answer = person.get(link)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert person.get(f"{instance.url}/api/v1/me").json()["admin"] is True
        person.cookies.clear()
        again = person.get(link)
        assert again.headers["location"] == "/#/link-used"
        assert person.get(f"{instance.url}/api/v1/me").status_code == 401


def test_it_answers_only_under_its_own_name(instance: instances.Instance) -> None:
    strange = httpx.get(f"{instance.url}/api/v1/version", headers={"Host": "evil.example.com"})
    assert strange.status_code == 403
    for path in ("/projects/default/experiments", "/projects/default/labeling-jobs"):
        assert httpx.get(f"{instance.url}/api/v1{path}").status_code == 401
        assert instance.request("GET", path).json()["items"] == []


def test_the_home_and_the_port_are_exclusive(
    instance: instances.Instance, tmp_path: pathlib.Path
) -> None:
    second = start_another("--home", str(instance.home), "--port", "0")
    assert second.returncode == 5
    assert f"running instance at {instance.url} (process {instance.pid})" in second.stderr
    port = instance.url.rpartition(":")[2]
    third = start_another("--home", str(tmp_path / "other"), "--port", port)
    assert third.returncode == 2
    assert f"Port {port} of 127.0.0.1 is in use" in third.stderr
    assert "--port 0" in third.stderr
    assert instance.request("GET", "/me").status_code == 200


def test_client_file_port_and_data_outlive_a_crash(instance: instances.Instance) -> None:
    client_file = instance.home / "client.json"
    assert stat.S_IMODE(client_file.stat().st_mode) == 0o600
    known = json.loads(client_file.read_bytes())
    instance.request("POST", "/projects/default/datasets", json={"name": "kept"})
    instance.kill()
    instance.start()
    assert json.loads(client_file.read_bytes()) == known
    names = [
        one["name"] for one in instance.request("GET", "/projects/default/datasets").json()["items"]
    ]
    assert names == ["kept"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_when_nothing_runs(
    instance: instances.Instance, number: signal.Signals
) -> None:
    assert instance.terminate(number) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{instance.url}/readyz")


def run_long(instance: instances.Instance) -> None:
    """Import digits and begin a run of many steps."""

    async def prepare() -> None:
        async with instance.client() as client:
            await digit_imports.import_digits(client, items=400, labelled=True)
            await client.experiments.create("default", {"name": "long", "spec": SPEC})

    anyio.run(prepare)


def trial_of(instance: instances.Instance) -> dict[str, Any]:
    """Return the run's trial; one without status while there is none."""
    items = instance.request("GET", "/projects/default/trials").json()["items"]
    return {"status": {}} | (items[0] if items else {})


def step_of(instance: instances.Instance) -> int:
    """Return the newest step that the run reported, -1 before the first."""
    trial = trial_of(instance)
    if not trial["status"]:
        return -1
    path = f"/projects/default/trials/{trial['metadata']['name']}/metrics"
    series = instance.request("GET", path).json()["series"]
    return max((one["steps"][-1] for one in series), default=-1)


@pytest.mark.torch
def test_a_run_outlives_a_crash_and_goes_on_after_a_stop(instance: instances.Instance) -> None:
    run_long(instance)
    wait_for("the first steps", lambda: step_of(instance) > 0)
    before = instance.agents()
    instance.kill()
    assert instance.agents() == before != []
    instance.start()
    reached = step_of(instance)
    wait_for("steps after the crash", lambda: step_of(instance) > reached + 50)
    assert instance.agents() == before
    status = trial_of(instance)["status"]
    assert (status["attempt"], status["generation"]) == (1, 1)

    assert instance.terminate() == 0
    assert instance.agents() == []
    instance.start()
    wait_for("a second attempt", lambda: trial_of(instance)["status"].get("attempt") == 2)
    wait_for("the end", lambda: trial_of(instance)["status"]["phase"] == "Succeeded")
    trial = trial_of(instance)
    assert trial["status"]["restarts"] == 0
    path = f"/projects/default/trials/{trial['metadata']['name']}/logs"
    resumed = re.findall(r"generation 1 starts at step (\d+)", instance.request("GET", path).text)
    assert len(resumed) == 1 and int(resumed[0]) >= 50


@pytest.mark.torch
def test_runs_follow_the_server_to_another_port(instance: instances.Instance) -> None:
    run_long(instance)
    wait_for("the first steps", lambda: step_of(instance) > 0)
    before, url = instance.agents(), instance.url
    instance.kill()
    instance.start("--port", "0")
    assert instance.url != url
    wait_for("a second attempt", lambda: trial_of(instance)["status"].get("attempt") == 2)
    wait_for("another agent", lambda: instance.agents() not in ([], before))
    assert trial_of(instance)["status"]["restarts"] == 0
