"""The command line as people use it, against the real API."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from quintile.core import meta

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILTIN = """
kind: Experiment
metadata: {name: first}
spec:
  estimator: {builtin: {model: resnet8}}
  run: {workers: {replicas: 2}}
"""


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    from PIL import Image

    root = tmp_path / "images"
    for number in range(6):
        folder = root / ("even" if number % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number * 20).save(folder / f"{number}.png")
    (root / "odd" / "broken.png").write_bytes(b"no image")
    return root


def test_datasets_from_import_to_labels(world: Any, images: pathlib.Path) -> None:
    made = world.quintile("dataset", "import", "shades", str(images), "--labels", "folders")
    assert made.returncode == 0, made.stderr
    assert "odd/broken.png" in made.stderr
    assert "imported  6" in made.stdout
    split = world.quintile("dataset", "split", "shades", "--name", "half", "--part", "test=2")
    assert "test   2" in split.stdout, split.stderr
    shown = world.quintile("dataset", "get", "shades", "-o", "json")
    found = json.loads(shown.stdout)
    assert (found["items"], [one["name"] for one in found["classes"]]) == (6, ["even", "odd"])
    assert found["splits"][0]["parts"] == {"test": 2, "train": 4}
    labels = world.quintile("dataset", "labels", "shades")
    assert labels.stdout.count("even") == 6  # three names, three labels
    assert world.quintile("dataset", "list", "-o", "name").stdout == "shades\n"
    assert world.quintile("dataset", "create", "shades").returncode == 5
    assert world.quintile("dataset", "get", "missing").returncode == 3


def test_apply_twice_and_then_otherwise(world: Any) -> None:
    first = world.quintile("apply", "-f", "-", text=BUILTIN)
    assert (first.returncode, first.stdout) == (0, "experiment/first created\n")
    again = world.quintile("apply", "-f", "-", text=BUILTIN)
    assert (again.returncode, again.stdout) == (0, "experiment/first unchanged\n")
    other = world.quintile("apply", "-f", "-", text=BUILTIN.replace("replicas: 2", "replicas: 3"))
    assert other.returncode == 5
    assert "is there already, with another spec" in other.stderr


def test_apply_names_the_bad_field(world: Any) -> None:
    found = world.quintile("apply", "-f", "-", text=BUILTIN.replace("resnet8", "vgg"))
    assert found.returncode == 2
    assert "spec.estimator.builtin.model" in found.stderr


def test_experiments_from_list_to_delete(world: Any) -> None:
    world.quintile("apply", "-f", "-", text=BUILTIN)
    trial = world.trial("first", phase="Running", progress={"step": 5, "totalSteps": 10})
    assert "first" in world.quintile("experiment", "list").stdout
    shown = json.loads(world.quintile("experiment", "get", "first", "-o", "json").stdout)
    assert shown["spec"]["run"]["workers"]["replicas"] == 2
    waited = world.quintile("experiment", "wait", "first", "--timeout", "0.2")
    assert waited.returncode == 124
    world.set_status(trial, phase="Failed", reason="UserError", message="rank 0 broke")
    failed = world.quintile("experiment", "wait", "first")
    assert failed.returncode == 1
    assert "UserError" in failed.stderr
    assert world.quintile("experiment", "metrics", "first", "-o", "json").stdout == "[]\n"
    unknown = world.quintile("experiment", "breakdown", "first")
    assert (unknown.returncode, "scripts do not" in unknown.stderr) == (3, True)
    world.report(
        trial, step=5, values={"step/data_ms": 1.0, "step/forward_ms": 3.0, "goodput": 0.5}
    )
    times = world.quintile("experiment", "breakdown", "first").stdout.split()
    assert times[:4] == ["step", "5", "goodput", "50.00"]
    assert "forward 3 75.00 % data 1 25.00 % all 4 100.00 %" in " ".join(times)
    told = json.loads(world.quintile("experiment", "breakdown", "first", "-o", "json").stdout)
    assert told == {"step": 5, "goodput": 0.5, "parts": {"forward": 3.0, "data": 1.0}}
    assert world.quintile("experiment", "delete", "first").returncode == 0
    assert world.quintile("experiment", "get", "first").returncode == 3


def test_run_detached(world: Any) -> None:
    script = ROOT / "examples" / "script" / "train.py"
    made = world.quintile(
        *("run", str(script), "-w", "2", "--mode", "ddp", "--comm", "gloo", "-d"),
        *("--failure-rule", "RestartUncounted=42:licence"),
        *("--progress-timeout", "60", "--start-timeout", "90"),
        *("--queue", "team", "--priority", "high", "--runtime", "gpu", "--image", "own:1"),
        *("--secret", "login", "--secret", "tokens=/secrets/tokens", "--", "--lr", "0.2"),
    )
    assert made.returncode == 0, made.stderr
    name = made.stdout.strip()
    assert name.startswith("train-")
    spec = world.resources.get(meta.Key("Experiment", "default", name))["spec"]
    assert spec["estimator"]["script"]["args"] == ["--lr", "0.2"]
    assert (spec["run"]["mode"], spec["run"]["workers"]["replicas"]) == ("ddp", 2)
    assert spec["run"]["comm"] == "gloo"
    rule = {"action": "RestartUncounted", "exitCodes": [42], "logPattern": "licence"}
    assert spec["failure"]["rules"] == [rule]
    assert (spec["queue"], spec["priority"], spec["runtime"]) == ("team", "high", "gpu")
    assert spec["image"] == "own:1"
    secrets = [(secret["name"], secret.get("mountPath")) for secret in spec["secretRefs"]]
    assert secrets == [("login", None), ("tokens", "/secrets/tokens")]
    told = spec["telemetry"]
    assert (told["progressTimeoutSeconds"], told["startTimeoutSeconds"]) == (60, 90)


@pytest.mark.parametrize("given", [["a=", "b"], ["a", "a"], ["a", "a=/x"], ["a=/x", "a=/y"]])
def test_run_refuses_secrets_that_are_unclear(world: Any, given: list[str]) -> None:
    script = ROOT / "examples" / "script" / "train.py"
    words = [word for one in given for word in ("--secret", one)]
    found = world.quintile("run", str(script), *words, "-d")
    assert found.returncode == 2
    assert "--secret" in found.stderr


def test_run_refuses_a_rule_without_a_known_action(world: Any) -> None:
    script = ROOT / "examples" / "script" / "train.py"
    found = world.quintile("run", str(script), "--failure-rule", "Retry=1", "-d")
    assert found.returncode == 2
    assert "failure.rules" in found.stderr


def test_dry_run_lists_the_code_and_makes_nothing(world: Any) -> None:
    script = ROOT / "examples" / "script" / "train.py"
    shown = world.quintile("run", str(script), "-w", "2", "--name", "dry", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "train.py" in shown.stdout
    assert shown.stdout.count("worker") >= 2
    assert world.quintile("experiment", "list", "-o", "name").stdout == ""
    plan = json.loads(
        world.quintile("run", str(script), "--name", "dry", "--dry-run", "-o", "json").stdout
    )
    assert plan["bundle"]["entry"] == "train.py"
    assert "token" not in plan["plans"][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--model", "vgg", "--dataset", "shades"], "There is no dataset"),
        (["run", "--model", "resnet8"], "no data"),
        (["run", "--model", "resnet8", "--mode", "ps", "--dataset", "Bad Ref"], "does not name"),
        (["run", "missing.py"], "There is no script"),
        (["label", "create", "a", "--dataset", "missing:1"], "missing"),
    ],
)
def test_what_cannot_work(world: Any, words: list[str], message: str) -> None:
    found = world.quintile(*words)
    assert found.returncode in (2, 3)
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_tokens(world: Any) -> None:
    made = world.quintile("token", "create", "ci", "--scope", "viewer", "--days", "1")
    assert made.returncode == 0, made.stderr
    assert len(made.stdout.split()) == 1
    listed = json.loads(world.quintile("token", "list", "-o", "json").stdout)
    assert all("token" not in one for one in listed)
    mine = next(one for one in listed if one["name"] == "ci")
    assert world.quintile("token", "revoke", mine["id"]).returncode == 0
    assert "ci" not in world.quintile("token", "list").stdout


def test_a_link_and_a_healthy_machine(world: Any) -> None:
    assert "/login?token=" in world.quintile("link").stdout
    found = world.quintile("doctor")
    assert f"{world.url}, release" in found.stdout
    assert "ada" in found.stdout


def test_a_server_that_is_away(world: Any) -> None:
    world.stop()
    found = world.quintile("experiment", "list")
    world.start()
    assert found.returncode == 4
    assert "does not answer" in found.stderr


def test_a_process_of_its_own(world: Any) -> None:
    env = os.environ | {"QUINTILE_URL": world.url, "QUINTILE_TOKEN": world.token()}
    found = subprocess.run(
        [sys.executable, "-m", "quintile.cli", "experiment", "get", "missing"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (3, "")
    assert found.stderr.startswith("error: ")


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_names_that_would_lead_elsewhere(world: Any, name: str) -> None:
    for command in (("experiment", "delete"), ("dataset", "get"), ("token", "revoke")):
        found = world.quintile(*command, name)
        assert (found.returncode, found.stderr.splitlines()[0]) == (
            2,
            f"error: {name!r} is no name.",
        )


def test_an_import_that_fails_leaves_no_dataset(world: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    found = world.quintile("dataset", "import", "shades", str(tmp_path / "a.zip"))
    assert found.returncode == 2
    assert "Nothing was imported into 'shades'" in found.stderr
    assert world.quintile("dataset", "list", "-o", "name").stdout == ""
    assert world.quintile("dataset", "create", "shades").returncode == 0
    assert world.quintile("dataset", "import", "shades", str(tmp_path / "a.zip")).returncode == 2
    assert world.quintile("dataset", "list", "-o", "name").stdout == "shades\n"
