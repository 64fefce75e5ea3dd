"""What the operator costs: many Experiments whose pods are played by kwok.

    KUBECONFIG=... python bench/scale [--experiments 1000] [--workers 4] [--out FILE]

Needs a cluster with our CRDs and with nodes of kwok (label ``type=kwok``, taint
``kwok.x-k8s.io/node``). The operator is a process of this machine, with the credentials of the
kubeconfig; a small server answers in the API's place that the ranks run. All Experiments
are created at once; then every pod ends well, and every Experiment succeeds. Meanwhile small ones
come one by one into another project: how soon they get their Job says how fair the queue is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import agents as play
import process

from quintile.adapters import client_kube
from quintile.core import errors, meta

EXPERIMENTS_PER_S, CPU_MS, RSS_MB, JOB_S = 15.0, 25.0, 120.0, 1.0
CALLERS = 8
GROUP = f"/apis/{meta.API_VERSION}"


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="bench/scale", description=__doc__)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    kube = client_kube.load(agent="quintile-bench")
    with (
        namespaces(kube, "bench-many", "bench-small") as (many, small),
        play.stub(kube, play.Load(many, small, asked.experiments, asked.workers)) as (agents, load),
        process.started((many, small), agents.url) as operator,
    ):
        found = measure(kube, operator, load, agents)
    for name, value, bar, met in found:
        word = "" if bar is None else f"   bar {bar:g}: {'met' if met else 'MISSED'}"
        print(f"{name:58} {value:10.2f}{word}")
    if asked.out:
        rows = [{"name": n, "value": v, "bar": b, "met": m} for n, v, b, m in found]
        asked.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(met for *_, met in found) else 1


Figure = tuple[str, float, float | None, bool]


def measure(
    kube: client_kube.KubeClient, operator: process.Operator, load: play.Load, agents: play.Agents
) -> list[Figure]:
    """Return the figures of one run."""
    many, small, count, workers = load.many, load.small, load.count, load.workers
    shape = f"{count} x {workers} pods"
    cpu, writes, begun = operator.cpu_s(), operator.writes(), time.monotonic()
    waits: list[float] = []
    over = threading.Event()
    aside = threading.Thread(target=trickle, args=(kube, small, waits, over), daemon=True)
    aside.start()
    in_parallel(lambda n: create(kube, many, f"load-{n:04d}", workers), count)
    process.wait(lambda: size(kube, f"/apis/batch/v1/namespaces/{many}/jobs") >= count)
    jobs_s = time.monotonic() - begun
    process.wait(lambda: running(kube, many) >= count * workers)
    pods_s = time.monotonic() - begun
    over.set()
    aside.join()
    rss = operator.rss_mb()
    agents.done.set()
    for namespace in (many, small):
        exit_well(kube, namespace)
    process.wait(lambda: ended(kube, many) + ended(kube, small) >= count + len(waits))
    total = count + len(waits)
    cpu_ms = (operator.cpu_s() - cpu) * 1000 / total
    spent = (operator.writes() - writes) / total
    print(f"writes so far: {operator.written()}", flush=True)
    calm = operator.writes()
    threading.Event().wait(60)
    print(f"writes at the end: {operator.written()}", flush=True)
    settled = operator.writes() - calm
    waits.sort()
    worst = waits[min(len(waits) - 1, int(len(waits) * 0.99))] if waits else 0.0
    return [
        figure(
            f"Experiments/s until every Job is there, {shape}", count / jobs_s, EXPERIMENTS_PER_S
        ),
        figure(f"Experiments/s until every pod runs, {shape}", count / pods_s, None),
        figure("operator, CPU-ms an Experiment, to its end", cpu_ms, -CPU_MS),
        figure("operator, writes an Experiment, to its end", spent, -8.0),
        figure(f"operator, RSS in MB at {shape}", rss, -RSS_MB),
        figure(f"small Experiment to its Job, s, p99 of {len(waits)}", worst, -JOB_S),
        figure("operator, writes in 60 s when all are settled", float(settled), -0.0),
        figure("load average meanwhile", os.getloadavg()[1], None),
    ]


def figure(name: str, value: float, bar: float | None) -> Figure:
    """Return a row; a negative bar is the most that is allowed."""
    if bar is None:
        return name, value, None, True
    most = str(bar).startswith("-")
    return name, value, abs(bar), value <= abs(bar) if most else value >= bar


def trickle(
    kube: client_kube.KubeClient, namespace: str, waits: list[float], over: threading.Event
) -> None:
    """Create one small Experiment after another; note how long each waits for its Job."""
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    while not over.is_set():
        begun = time.monotonic()
        create(kube, namespace, f"small-{len(waits):04d}", 1)
        process.wait(lambda: size(kube, path) > len(waits), every_s=0.02)
        waits.append(time.monotonic() - begun)
        over.wait(1.0)


def create(kube: client_kube.KubeClient, namespace: str, name: str, workers: int) -> None:
    """Create an Experiment."""
    run = {"mode": "ddp" if workers > 1 else "single", "workers": {"replicas": workers}}
    document = {
        "apiVersion": meta.API_VERSION,
        "kind": "Experiment",
        "metadata": {"name": name},
        "spec": {"estimator": {"builtin": {"model": "resnet8"}}, "run": run},
    }
    kube.create(f"{GROUP}/namespaces/{namespace}/experiments", document)


def exit_well(kube: client_kube.KubeClient, namespace: str) -> None:
    """Let all pods end with code 0."""
    names = [item["metadata"]["name"] for item in pods(kube, namespace)]
    body = {"metadata": {"annotations": {"fake/exit-code": "0"}}}
    path = f"/api/v1/namespaces/{namespace}/pods"

    def end(name: str) -> None:
        with contextlib.suppress(errors.NotFound):  # its trial has ended without it
            kube.patch(f"{path}/{name}", body)

    in_parallel(lambda n: end(names[n]), len(names))


def in_parallel(work: Callable[[int], object], count: int) -> None:
    """Do something for 0 .. count-1 with a few callers at a time."""
    with futures.ThreadPoolExecutor(CALLERS) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result()


def pods(kube: client_kube.KubeClient, namespace: str) -> list[meta.Document]:
    """Return the pods of a namespace."""
    found: list[meta.Document] = kube.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    return found


def size(kube: client_kube.KubeClient, path: str) -> int:
    """Return how many objects a collection has, by listing one of them."""
    found = kube.get(path, limit=1)
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)


def running(kube: client_kube.KubeClient, namespace: str) -> int:
    """Return how many pods run."""
    return sum(pod["status"].get("phase") == "Running" for pod in pods(kube, namespace))


def ended(kube: client_kube.KubeClient, namespace: str) -> int:
    """Return how many Experiments succeeded.

    Raises:
        SystemExit: One failed or began anew: this measures something else, as nodes that are lost.
    """
    items = kube.get(f"{GROUP}/namespaces/{namespace}/experiments")["items"]
    found = [item.get("status", {}) for item in items]
    for status in found:
        if status.get("phase") == "Failed" or status.get("restarts"):
            raise SystemExit(f"an Experiment did not go straight through: {status}")
    return sum(status.get("phase") == "Succeeded" for status in found)


@contextlib.contextmanager
def namespaces(kube: client_kube.KubeClient, *prefixes: str) -> Iterator[tuple[str, ...]]:
    """Make namespaces, and delete them at the end."""
    names = tuple(f"{prefix}-{secrets.token_hex(3)}" for prefix in prefixes)
    for name in names:
        labels = {"quintile.dev/project": name}
        kube.create(
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        )
        account = {"apiVersion": "v1", "kind": "ServiceAccount"}
        place = f"/api/v1/namespaces/{name}/serviceaccounts"
        kube.create(place, {**account, "metadata": {"name": "quintile-worker"}})
    try:
        yield names
    finally:
        for name in names:
            with contextlib.suppress(errors.QuintileError):
                kube.delete(f"/api/v1/namespaces/{name}")


if __name__ == "__main__":
    sys.exit(main())
