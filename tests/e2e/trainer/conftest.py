"""Whole runs of agent and ranks on the handwritten digits, in front of a small coordinator."""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import random
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import pytest
import torch
from safetensors import torch as safetensors

from quintile.core import experiment, launch
from quintile.testing import agents, coordinator, digits, objects
from quintile_trainer import progress

DATASET = {"name": "digits", "version": 1, "split": digits.SPLIT}


@dataclass
class Run:
    """One trial with its coordinator; further attempts go on from what was committed."""

    fake: coordinator.FakeCoordinator
    folder: pathlib.Path
    spec: Mapping[str, Any]
    hparams: Mapping[str, Any]
    attempts: list[agents.Attempt] = field(default_factory=list)

    def start(self, *, workers: int | None = None, **more: str) -> list[agents.Agent]:
        """Start the agents of the next attempt; ``workers`` = another number than submitted.

        ``more`` are variables of theirs.
        """
        if self.attempts:
            self.fake.next_attempt()
        submitted = self.trial(self.spec)
        trial, variables = submitted, dict(more)
        if workers is not None:
            run = {**self.spec["run"], "workers": {"replicas": workers}}
            trial = self.trial({**self.spec, "run": run})
            variables["QUINTILE_PROGRAM"] = launch.program(submitted)
        attempt = agents.Attempt(
            self.folder,
            self.fake.url,
            self.fake.token,
            trial,
            attempt=len(self.attempts) + 1,
            variables=variables,
        )
        self.attempts.append(attempt)
        return attempt.start()

    def trial(self, spec: Mapping[str, Any]) -> experiment.Trial:
        """The trial of a spec."""
        return agents.trial_of(spec, uid=self.fake.trial_uid, hparams=self.hparams)

    def finish(self, started: list[agents.Agent] | None = None) -> None:
        """Run to the end (or go on to it) and see that it was a good one."""
        running = started if started is not None else self.start()
        for agent in running:
            assert agent.wait(100) == 0, agent.said + self.printed()

    def until_step(self, step: int) -> None:
        """Wait until rank 0 of the newest attempt has done so many steps."""
        attempt = len(self.attempts)

        def newest() -> int:
            places = self.folder.glob(f"*-a{attempt}-*/g*/rank-0.progress")
            paths = sorted(places, key=lambda path: path.stat().st_mtime)
            return progress.read(paths[-1])[0] if paths else -1

        agents.until(lambda: newest() >= step, what=f"step {step}", timeout_s=100)

    def interrupt(self, started: list[agents.Agent], at: int) -> int:
        """Ask agents to leave after about ``at`` steps; return the step that was saved."""
        self.until_step(at)
        for agent in started:
            agent.terminate()
        for agent in started:
            assert agent.wait(100) == 75, agent.said
        return self.fake.known.commits[-1].manifest.step

    def curve(self, name: str = "train/loss") -> dict[int, float]:
        """A metric of rank 0 by step, of all attempts and generations."""
        found = {}
        for stream in sorted(self.fake.known.metrics):
            if stream[2] == 0:
                for _, point in sorted(self.fake.known.metrics[stream].items()):
                    if name in point.values:
                        found[point.step] = point.values[name]
        return found

    def printed(self) -> str:
        """Everything that ranks printed."""
        logs = self.fake.known.logs
        return "\n".join(line.line for stream in sorted(logs) for line in logs[stream].values())

    def weights(self) -> dict[str, torch.Tensor]:
        """The published model."""
        return safetensors.load(self.artifact("model.safetensors"))

    def artifact(self, name: str) -> bytes:
        """A published file."""
        return self.fake.known.objects[f"artifacts/{self.fake.trial_uid}/{name}"]

    def report(self) -> dict[str, Any]:
        """The published report."""
        found: dict[str, Any] = json.loads(self.artifact("report.json"))
        return found


class Workshop:
    """Makes runs that share the stored digits."""

    def __init__(self, folder: pathlib.Path, stored: Mapping[str, bytes], version: Any) -> None:
        self.folder = folder
        self.stored = stored
        self.version = version
        self.runs: list[Run] = []

    def run(self, *, workers: int = 1, estimator: Any = None, **changes: Any) -> Run:
        """A run of the digits; ``changes`` are hyperparameters, or ``every`` steps to save.

        ``run_spec`` goes into ``spec.run``.
        """
        run_spec = changes.pop("run_spec", {})
        fake = coordinator.FakeCoordinator()
        fake.start()
        fake.known.objects.update(self.stored)
        fake.known.access = self.version.access(fake.bytes_url)
        folder = self.folder / f"run-{len(self.runs)}"
        folder.mkdir()
        spec = {
            "dataset": DATASET,
            "estimator": estimator or {"builtin": {"model": "resnet8"}},
            "run": {"workers": {"replicas": workers}, "deterministic": True, **run_spec},
            "checkpoint": {"everySteps": changes.pop("every", 500)},
            "telemetry": {"summaryEverySteps": changes.pop("report", 5)},
        }
        made = Run(fake, folder, spec, changes)
        self.runs.append(made)
        return made

    def functions(self, given: Mapping[str, Any]) -> tuple[str, bytes]:
        """Digest and bytes of a bundle of functions."""
        header = {"format": 1, "python": f"{sys.version_info.major}.{sys.version_info.minor}"}
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("header.json", json.dumps(header))
            archive.writestr("functions.pkl", cloudpickle.dumps(dict(given)))
        return hashlib.sha256(stream.getvalue()).hexdigest(), stream.getvalue()

    def end(self) -> None:
        """End everything that is left."""
        for run in self.runs:
            for attempt in run.attempts:
                attempt.end()
            run.fake.stop()


@pytest.fixture(scope="session")
def stored() -> tuple[dict[str, bytes], Any]:
    """The digits in two shards or more."""
    store = objects.FakeObjectStore()
    version = digits.store(store, shard_bytes=800_000)
    assert len(version.written.shards) > 1
    return {info.key: store.get(info.key) for info in store.list("")}, version


@pytest.fixture
def workshop(tmp_path: pathlib.Path, stored: tuple[dict[str, bytes], Any]) -> Iterator[Workshop]:
    made = Workshop(tmp_path, *stored)
    yield made
    made.end()


@pytest.fixture(scope="session")
def shared_workshop(
    tmp_path_factory: pytest.TempPathFactory, stored: tuple[dict[str, bytes], Any]
) -> Iterator[Workshop]:
    """A workshop for runs that several tests only read."""
    made = Workshop(tmp_path_factory.mktemp("shared"), *stored)
    yield made
    made.end()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Another seed for every day's first run would hide failures: one by test name."""
    return random.Random(request.node.name)
