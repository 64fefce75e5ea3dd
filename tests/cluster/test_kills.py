"""A run ends right whatever is killed under it: pods, agents, the platform, both stores, the node.

Per mode an undisturbed run, then one that takes the same steps more slowly while one thing after
another is killed. Needs what ``quintile.testing.releases`` names. The kubelet and the node are left
out without two commands in the environment, run by a shell, that stop and start the kubelet of the
node that trials run on: ``QUINTILE_TEST_STOP_KUBELET`` and ``QUINTILE_TEST_START_KUBELET``. A
kube-proxy that ends with its Node, and that nothing restarts, is started by the second command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from quintile.core import datasets
from quintile.sdk import Estimator, Experiment, HParams, RunConfig, blocking
from quintile.testing import digit_imports, projects, releases, strikes

pytestmark = pytest.mark.timeout(1200)
STEPS = 2200
EVERY = 50
"""Steps between checkpoints."""

PAUSE_S = 0.1
"""How much longer a step of the struck run takes."""

TAKEOVER_S = 20.0
KUBELET_AWAY_S = 30.0
KUBELET: Final = ("QUINTILE_TEST_STOP_KUBELET", "QUINTILE_TEST_START_KUBELET")
ACCURACY = 0.005
SHAPES: dict[str, dict[str, Any]] = {
    "ddp": {"mode": "ddp", "no_of_workers": 2},
    "horovod-mpi": {"mode": "horovod", "horovod_controller": "mpi", "no_of_workers": 2},
    "ps": {"no_of_workers": 2, "no_of_ps": 2},
}
EXACT = ("ddp", "ps")
"""Modes that promise equal bits."""

NEWEST = """
import pathlib
from quintile_trainer import progress
paths = pathlib.Path("/var/lib/quintile/state").glob("g*/rank-*.progress")
newest = max((progress.mark(path) for path in paths), key=lambda mark: mark.time_s)
print(newest.step)
"""


def model_fn(hparams: Any) -> Any:
    import hashlib
    import time

    from torch import nn

    class Net(nn.Module):
        """Prints a digest of its weights whenever it is evaluated."""

        def __init__(self) -> None:
            super().__init__()
            layers = nn.Linear(64 * hparams["channels"], 32), nn.ReLU(), nn.Linear(32, 10)
            self.layers = nn.Sequential(nn.Flatten(), *layers)

        def forward(self, inputs: Any) -> Any:
            if self.training:
                time.sleep(hparams["pause"])
            else:
                raw = b"".join(one.detach().numpy().tobytes() for one in self.parameters())
                print(f"bits {hashlib.sha256(raw).hexdigest()}", flush=True)  # noqa: T201
            return self.layers(inputs)

    return Net()


model_fn.__module__ = "__main__"


@dataclass
class Struck:
    """A run under which things are killed."""

    release: releases.Release
    project: projects.Project
    name: str

    def pod(self, role: str, index: int) -> str:
        labels = "batch.kubernetes.io/job-completion-index"
        attempt = str(self.project.status(self.name)["attempt"])
        for pod in self.project.pods(self.name, role):
            own = pod["metadata"]["labels"]
            if (own[labels], own["quintile.dev/attempt"]) == (str(index), attempt):
                return str(pod["metadata"]["name"])
        raise AssertionError(f"{self.name} has no {role} {index}")

    def place(self) -> tuple[int, int]:
        """Attempt and generation."""
        status = self.project.status(self.name)
        return int(status["attempt"]), int(status["generation"])

    def step(self) -> int:
        """What a rank told last; the status is some seconds behind."""
        said = strikes.inside(self.project, self.pod("worker", 0), NEWEST).strip()
        return int(said) if said else -1

    def until_half_way(self) -> int:
        """Wait until the newest checkpoint is committed and some steps are done after it."""
        wanted = range(EVERY // 2, EVERY - 5)
        step = 0

        def there() -> bool:
            nonlocal step
            step = self.step()
            return step % EVERY in wanted

        self.project.until(there)
        return step

    def until_moved(self, before: tuple[int, int]) -> None:
        """Wait for another attempt or generation."""
        self.project.until(lambda: self.place() != before)

    def saved(self) -> int:
        """The step of the newest checkpoint."""
        return int(self.project.status(self.name).get("checkpoint", {}).get("step", 0))

    def until_saved(self, after: int) -> None:
        """Wait for a checkpoint after a step: ranks, API, database, store and operator work."""
        self.project.until_told(self.name, lambda _status: self.saved() > after)


def of_worker(run: Struck) -> None:
    strikes.pod(run.project, run.pod("worker", 1))


def of_server(run: Struck) -> None:
    strikes.pod(run.project, run.pod("ps", 1))


def of_agent(run: Struck) -> None:
    strikes.first_process(run.project, run.pod("worker", 1))


def of_rank(run: Struck) -> None:
    strikes.ranks(run.project, run.pod("worker", 0))


def of_operator(run: Struck) -> None:
    leader = holder(run)
    begun = time.monotonic()
    strikes.first_process(system(run), leader.rpartition("-")[0])
    run.project.until(lambda: holder(run) not in ("", leader))
    took_s = time.monotonic() - begun
    sys.stdout.write(f"another operator leads after {took_s:.1f} s\n")
    assert took_s <= TAKEOVER_S


def of_part(part: str) -> Callable[[Struck], None]:
    def strike(run: Struck) -> None:
        (pod,) = run.release.pods(part)
        # A server with a volume must be gone before another one has it.
        grace = ("--grace-period=1",) if part in ("postgresql", "minio") else ("--force",)
        run.release.kubectl("delete", "pod", pod["metadata"]["name"], *grace)

    return strike


def of_kubelet(run: Struck) -> None:
    name, begun = node(run), time.monotonic()
    shell(KUBELET[0])
    try:
        run.project.until(lambda: time.monotonic() - begun > KUBELET_AWAY_S)
    finally:
        shell(KUBELET[1])
    run.project.until(lambda: is_ready(run, name))


def of_node(run: Struck) -> None:
    """The node is removed while its pods run, and comes back."""
    name = node(run)
    path = f"/api/v1/nodes/{name}"
    before = run.project.kube.get(path)
    run.project.kube.delete(path)
    shell(KUBELET[0])
    shell(KUBELET[1])
    run.project.until(lambda: is_ready(run, name))
    # What a person had written on it is written again.
    kept = {word: before["metadata"].get(word, {}) for word in ("labels", "annotations")}
    run.project.kube.patch(path, {"metadata": kept})


VICTIMS: dict[str, Callable[[Struck], None]] = {
    "rank": of_rank,
    "worker": of_worker,
    "server": of_server,
    "agent": of_agent,
    "operator": of_operator,
    "api": of_part("api"),
    "postgresql": of_part("postgresql"),
    "minio": of_part("minio"),
    "kubelet": of_kubelet,
    "node": of_node,
}
ATTEMPTS = {"worker": 1, "server": 1, "agent": 1}
"""What costs a new attempt; a rank costs a generation, and all else nothing."""


def system(run: Struck) -> projects.Project:
    return projects.Project(run.release.kube, run.release.namespace)


def holder(run: Struck) -> str:
    root = f"/apis/coordination.k8s.io/v1/namespaces/{run.release.namespace}/leases"
    found = run.release.kube.get(f"{root}/{releases.NAME}-operator")
    return str(found["spec"].get("holderIdentity") or "")


def node(run: Struck) -> str:
    return str(run.project.pods(run.name, "worker")[0]["spec"]["nodeName"])


def is_ready(run: Struck, name: str) -> bool:
    for item in run.project.kube.get("/api/v1/nodes")["items"]:
        conditions = {one["type"]: one["status"] for one in item["status"].get("conditions", ())}
        if item["metadata"]["name"] == name:
            return conditions.get("Ready") == "True"
    return False


def shell(variable: str) -> None:
    subprocess.run(os.environ[variable], shell=True, check=True, capture_output=True)


@pytest.fixture(scope="module")
def release() -> Iterator[releases.Release]:
    with releases.namespaces() as made:
        made.upgrade()
        with made.session() as session:
            session.run(digits(session))
        yield made


async def digits(session: blocking.Session) -> None:
    client, project = session.client, session.project
    await digit_imports.import_digits(client, items=600, labelled=True, project=project)
    split = datasets.SplitCreate(name="holdout", parts={"test": "0.2"})
    await client.datasets.create_split(project, "digits", 1, split)


def begin(release: releases.Release, name: str, shape: str, pause_s: float) -> None:
    with release.session():
        Experiment.run(
            experiment_name=name,
            estimator=Estimator.NewClassificationEstimator(model_fn=model_fn),
            hyper_parameters=HParams(
                iterations=STEPS, batch_size=16, seed=1, extra={"pause": pause_s}
            ),
            dataset_version_split="digits:1/holdout",
            run_config=RunConfig(
                **SHAPES[shape],
                deterministic=True,
                memory="1Gi",
                summary_save_frequency=EVERY,
                checkpoint_frequency_in_steps=EVERY,
                max_restarts=10,
            ),
        )


def told(release: releases.Release, name: str) -> tuple[set[str], float, list[int]]:
    """Digests of the weights at the end, accuracy, and where rank 0 began again."""
    with release.session():
        job = Experiment.get(name).get_single_job()
        lines = "\n".join(job.logs(rank=0))
        curve = job.metrics("eval/accuracy")["eval/accuracy"]
    starts = [int(step) for step in re.findall(r"generation \d+ starts at step (\d+)", lines)]
    return set(re.findall(r"bits (\w+)", lines)), curve[-1][1], starts


@pytest.mark.parametrize("shape", SHAPES)
def test_kills_change_nothing_in_the_end(release: releases.Release, shape: str) -> None:
    calm, name = f"calm-{shape}", f"struck-{shape}"
    project = projects.Project(release.kube, release.project)
    begin(release, calm, shape, 0.0)
    project.until_phase(calm, "Succeeded")
    begin(release, name, shape, PAUSE_S)
    project.until_told(name, lambda status: status.get("progress", {}).get("step", 0) > 0)
    run, costly = Struck(release, project, name), []
    away = {"kubelet", "node"} if any(word not in os.environ for word in KUBELET) else set()
    away |= set() if shape == "ps" else {"server"}
    for victim, strike in VICTIMS.items():
        if victim in away:
            continue
        before, step = run.place(), run.until_half_way()
        begun = time.monotonic()
        strike(run)
        if victim == "rank" or victim in ATTEMPTS:
            run.until_moved(before)
            step = max(step, run.saved())
        run.until_saved(step)
        after = run.place()
        sys.stdout.write(
            f"{shape}: {victim} at step {step}, {before} -> {after}, "
            f"a checkpoint after {time.monotonic() - begun:.1f} s\n"
        )
        assert after[0] - before[0] == ATTEMPTS.get(victim, 0), victim
        if victim == "rank":
            assert after[1] == before[1] + 1
        elif victim not in ATTEMPTS:
            assert after == before, victim
        costly += [step] if after != before else []
    status = project.until_phase(name, "Succeeded")
    assert status["progress"]["step"] == STEPS
    (expected, accuracy, _), (bits, reached, starts) = told(release, calm), told(release, name)
    sys.stdout.write(f"{shape}: struck at {costly}, went on from {starts}\n")
    assert len(starts) == len(costly)
    assert all(step - start <= EVERY for step, start in zip(costly, starts, strict=True))
    assert abs(reached - accuracy) <= ACCURACY
    if shape in EXACT:
        assert len(expected) == 1
        assert bits == expected
