"""``quintile plan`` without a server: RunPlans, predictions from a file, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quintile.cli import main
from quintile.testing import calibrations


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main.main(["plan", *words])
    code = caught.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server is known."""
    monkeypatch.setenv("QUINTILE_HOME", str(tmp_path / "home"))
    for key in ("QUINTILE_URL", "QUINTILE_TOKEN", "QUINTILE_PROJECT"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.json"
    path.write_text(calibrations.made(calibrations.Truth()).model_dump_json())
    return path


def shown(capsys: Any, *words: str) -> dict[str, Any]:
    assert call(*words, "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_the_plan_names_roles_replicas_commands_and_environment(capsys: Any) -> None:
    found = shown(capsys, "--model", "resnet18", "-w", "3")
    (plan,) = found["plans"]
    assert (plan["mode"], [one["role"] for one in plan["replicas"]]) == ("ddp", ["worker"] * 3)
    for index, replica in enumerate(plan["replicas"]):
        assert replica["argv"][-1] == "quintile_trainer.agent"
        assert replica["env"]["QUINTILE_INDEX"] == str(index)
        assert json.loads(replica["env"]["QUINTILE_MEMBERS"]) == {"worker": 3}
    assert "token" not in plan
    assert found["prediction"] is None
    assert "--calibrate" in found["missing"]


def test_a_file_is_planned_as_it_is_and_options_change_it(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "kind: Experiment\nmetadata: {name: digits}\n"
        "spec: {estimator: {builtin: {}}, run: {workers: {replicas: 2}}}\n"
    )
    assert len(shown(capsys, str(path))["plans"][0]["replicas"]) == 2
    found = shown(capsys, str(path), "-w", "4", "--batch-size", "8")
    assert len(found["plans"][0]["replicas"]) == 4
    program = json.loads(found["plans"][0]["replicas"][0]["env"]["QUINTILE_PROGRAM"])
    assert program["hparams"] == [{"name": "batch_size", "value": "8"}]


def test_a_prediction_comes_with_inputs_bands_and_held_out_runs(
    calibration: Path, capsys: Any
) -> None:
    found = shown(capsys, "--model", "resnet8", "-w", "2", "--calibration", str(calibration))
    prediction = found["prediction"]
    assert [row["workers"] for row in prediction["curve"]] == [2**k for k in range(11)]
    for row in prediction["curve"]:
        assert row["low"] <= row["images_per_s"] <= row["high"]
    assert prediction["cost_unit"] == "worker-hours"
    assert any("10 Gbit/s and 50 us" in line for line in prediction["inputs"])
    assert any(check["name"].startswith("resnet8") for check in prediction["held_out"])


def test_the_table_is_for_people(calibration: Path, capsys: Any) -> None:
    given = ["--calibration", str(calibration), "--price", "2", "--max-workers", "16"]
    assert call("--model", "resnet8", "-w", "2", *given, "--storage", "1GB", "--decode") == 0
    text = capsys.readouterr()
    assert "as a prediction, with its inputs:" in text.out
    assert "held out: resnet8, 32 x 28x28x1 x 2 workers: predicted" in text.out
    assert "COST/M IMAGES" in text.out
    assert "environment of worker 0:" in text.out
    assert "storage of 8 Gbit/s" in text.out
    assert "planned without a server" in text.err


def test_the_warning_about_parameter_servers(calibration: Path, capsys: Any) -> None:
    given = ["--calibration", str(calibration), "--bandwidth", "1Gbit"]
    found = shown(capsys, "--model", "resnet8", "-w", "20", "--servers", "5", *given)
    notes = found["prediction"]["notes"]
    assert any("5 parameter servers x 20 workers would take 4.2x" in note for note in notes)
    assert any("use mode ddp" in note for note in notes)
    assert 20 in [row["workers"] for row in found["prediction"]["curve"]]


def test_what_cannot_run_is_said_and_predicted_all_the_same(calibration: Path, capsys: Any) -> None:
    given = ["--calibration", str(calibration)]
    path = calibration.with_name("elastic.yaml")
    path.write_text(
        "kind: Experiment\nmetadata: {name: a}\nspec:\n  estimator: {builtin: {}}\n"
        "  run: {mode: ddp, workers: {replicas: 2}, resources: {cpu: much}}\n"
    )
    found = shown(capsys, str(path), *given)
    assert found["plans"] == []
    assert "much" in found["refused"]
    assert found["prediction"]["curve"]


def test_names_only(capsys: Any) -> None:
    assert call("--model", "resnet8", "-o", "name") == 0
    assert capsys.readouterr().out == "plan-resnet8\n"


def test_the_default_calibration_is_found_by_model_batch_and_image(
    calibration: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "home" / "calibrations"
    folder.mkdir(parents=True)
    (folder / "resnet8-32-28x28x1.json").write_text(calibration.read_text())
    assert shown(capsys, "--model", "resnet8")["prediction"] is not None
    assert shown(capsys, "--model", "resnet8", "--batch-size", "16")["prediction"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "it got neither"),
        (["a.yaml", "--model", "resnet8"], "it got both"),
        (["missing.yaml"], "cannot be read"),
        (["--model", "resnet9"], "spec.estimator.builtin.model"),
        (["--model", "resnet8", "--bandwidth", "fast"], "'fast' is not a rate"),
        (["--model", "resnet8", "--latency", "0ms"], "is not a delay"),
        (["--model", "resnet8", "--image", "28x28"], "HEIGHTxWIDTHxCHANNELS"),
        (["--model", "resnet8", "--mode", "ddp", "--servers", "2"], "mode is ddp, not ps"),
        (["--model", "resnet8", "--calibration", "missing.json"], "cannot be read"),
        (["--model", "resnet8", "--max-workers", "2000"], "max-workers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input(words: list[str], message: str, capsys: Any) -> None:
    assert call(*words) == 2
    text = capsys.readouterr()
    assert text.out == ""
    assert message in text.err


def test_a_calibration_of_another_model_is_refused(calibration: Path, capsys: Any) -> None:
    assert call("--model", "resnet18", "--calibration", str(calibration)) == 2
    assert "is of resnet8, 32 x 28x28x1; the run is of resnet18" in capsys.readouterr().err


def test_a_file_that_is_no_calibration(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"format": "quintile.calibration/1"}')
    assert call("--model", "resnet8", "--calibration", str(path)) == 2
    assert "made_at: this field is missing" in capsys.readouterr().err


def test_a_calibration_that_fails_says_why(tmp_path: Path, capsys: Any) -> None:
    given = ["--image", "4x4x1", "--calibrate", "--calibration", str(tmp_path / "c.json")]
    assert call("--model", "resnet8", *given) == 4
    text = capsys.readouterr().err
    assert "The calibration of resnet8 failed" in text
    assert "4x4x1 is no HEIGHTxWIDTHxCHANNELS" in text
    assert "quintile doctor" in text
