"""``quintile demo``: the whole job on real images, with the figures that the README promises."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

KEYS = [
    "items",
    "human_labels",
    "human_label_fraction",
    "auto_label_accuracy",
    "target_error",
    "certified_error",
    "true_error",
    "certificate_mode",
    "curve",
    "label_seconds",
    "experiments",
    "setup_seconds",
    "total_seconds",
    "ui",
]
RUN_KEYS = ["name", "mode", "workers", "phase", "eval_accuracy", "images_per_second", "seconds"]
DEADLINE_S = 180.0


def start(folder: pathlib.Path, *options: str) -> subprocess.Popen[str]:
    """Start the demo with its temporary home below ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-m", "quintile.cli", "demo", *options],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def mentioning(text: str) -> list[str]:
    """Return the environments of living processes that mention a text."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        if path.name != str(os.getpid()):
            try:
                lines = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            except OSError:
                continue  # it has just ended, or belongs to somebody else
            if text.encode() in lines:
                found.append(path.name)
    return found


def at_most(curve: list[dict[str, float]], fraction: float) -> float:
    """Return the accuracy of the last point of a curve up to a share of labels."""
    return [one["accuracy"] for one in curve if one["human_label_fraction"] <= fraction][-1]


@pytest.mark.torch
@pytest.mark.timeout(400)
def test_the_main_job_keeps_its_promises(tmp_path: pathlib.Path) -> None:
    with start(tmp_path, "--setup-seconds", "12.5") as demo:
        out, err = demo.communicate(timeout=390)
    assert demo.returncode == 0, err
    report: dict[str, Any] = json.loads((tmp_path / "demo-report.json").read_bytes())
    assert list(report) == KEYS
    assert (report["items"], report["target_error"], report["setup_seconds"]) == (1797, 0.02, 12.5)
    assert report["human_labels"] == round(report["human_label_fraction"] * 1797)
    assert report["human_label_fraction"] <= 0.22
    assert report["auto_label_accuracy"] >= 0.985
    assert report["true_error"] <= report["certified_error"] <= report["target_error"]
    assert at_most(report["curve"], 0.05) >= 0.98
    assert at_most(report["curve"], 0.10) >= 0.99
    runs = report["experiments"]
    assert [list(run) for run in runs] == [RUN_KEYS, RUN_KEYS]
    assert [(run["mode"], run["workers"]) for run in runs] == [("single", 1), ("ddp", 2)]
    assert all(run["phase"] == "Succeeded" and run["eval_accuracy"] >= 0.97 for run in runs)
    assert "within what was certified" in out
    assert "Train on version 2 with two workers" in err
    assert mentioning(str(tmp_path)) == []
    assert list(tmp_path.glob("quintile*")) == []


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    with start(tmp_path) as demo:
        deadline = time.monotonic() + DEADLINE_S
        while not list(tmp_path.glob("quintile-demo-*/home/runs/*/*/identity.json")):
            assert time.monotonic() < deadline, "no agent started"
            time.sleep(0.05)
        demo.send_signal(signal.SIGTERM)
        _out, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, err
    assert "interrupted" in err
    assert mentioning(str(tmp_path)) == []
    assert list(tmp_path.glob("quintile*")) == []


def test_a_report_that_cannot_be_written_is_said(tmp_path: pathlib.Path) -> None:
    with start(tmp_path, "--report", str(tmp_path / "no" / "folder.json")) as demo:
        _out, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert "no such folder" in err.lower()
