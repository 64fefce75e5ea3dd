"""What the operator costs: many Experiments whose pods are played by kwok.

    KUBECONFIG=... python bench/scale.py [--experiments 1000] [--workers 4] [--out FILE]

Needs a cluster with our CRDs and with nodes of kwok (label ``type=kwok``, taint
``kwok.x-k8s.io/node``). The operator is a process of this machine, with the credentials of the
kubeconfig; a small server answers in the API's place that the ranks run. All Experiments
are created at once; then every pod ends well, and every Experiment succeeds. Meanwhile small ones
come one by one into another project: how soon they get their Job says how fair the queue is.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any
from urllib import parse

from quintile.adapters import client_kube, tokens_ed25519
from quintile.core import errors, fact_messages, facts, meta

EXPERIMENTS_PER_S, CPU_MS, RSS_MB, JOB_S = 15.0, 25.0, 120.0, 1.0
PATIENCE_S = 900.0
CALLERS = 8
WRITES = ("POST", "PATCH", "PUT", "DELETE")
GROUP = f"/apis/{meta.API_VERSION}"
ON_KWOK = """
import dataclasses, sys
from quintile_operator import main
plain = main.pod_site
taint = {"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}
main.pod_site = lambda told: dataclasses.replace(
    plain(told), node_selector={"type": "kwok"}, tolerations=(taint,)
)
sys.exit(main.main())
"""
"""The operator, with pods that go to the nodes of kwok."""


@dataclass
class Operator:
    """The process, and where it tells its figures."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu_s(self) -> float:
        """Return the processor seconds that it took so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Return the memory that it holds now."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found.group(1)) / 1000

    def writes(self) -> int:
        """Return the requests that changed something; the Lease left out."""
        return sum(self.written().values())

    def written(self) -> dict[str, int]:
        """Return the requests that changed something, by verb and resource, by its own count."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        text = urllib.request.urlopen(url, timeout=30).read().decode()
        found: dict[str, int] = {}
        for line in text.splitlines():
            one = re.match(r"quintile_operator_api_requests_total\{(.*)\} ([\d.e+]+)", line)
            labels = dict(re.findall(r'(\w+)="([^"]*)"', one.group(1))) if one else {}
            if one and labels["verb"] in WRITES and labels["resource"] != "leases":
                name = f"{labels['verb']} {labels['resource']} {labels['code']}"
                found[name] = found.get(name, 0) + round(float(one.group(2)))
        return found


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="bench/scale.py", description=__doc__)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    kube = client_kube.load(agent="quintile-bench")
    with (
        namespaces(kube, "bench-many", "bench-small") as (many, small),
        stub(kube, Load(many, small, asked.experiments, asked.workers)) as (agents, load),
        started((many, small), agents.url) as operator,
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


@dataclass(frozen=True)
class Load:
    """How many Experiments with how many pods, and in which namespaces."""

    many: str
    small: str
    count: int
    workers: int


class Agents:
    """What stands for the agents of all trials: their ranks run once all their pods do.

    Args:
        kube: Watches the pods.
        load: How many pods a trial has in the namespace ``many``; in others it has one.
    """

    def __init__(self, kube: client_kube.KubeClient, load: Load) -> None:
        self.url = ""
        self.done = threading.Event()
        self._kube = kube
        self._load = load
        self._pods: dict[str, set[str]] = {}
        self._running: set[str] = set()
        self._keys: list[meta.Key] = []
        self._news = threading.Condition()

    def follow(self, namespace: str) -> None:
        """Watch the pods of a namespace, for as long as this process lives."""
        path, version = f"/api/v1/namespaces/{namespace}/pods", "0"
        wanted = self._load.workers if namespace == self._load.many else 1
        while True:
            for event in self._kube.watch(path, version=version, timeout_s=300):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["object"].get("status", {}).get("phase") == "Running":
                    self._runs(event["object"]["metadata"], wanted)

    def _runs(self, pod: meta.Document, wanted: int) -> None:
        labels = pod["labels"]
        uid = labels["quintile.dev/trial-uid"]
        with self._news:
            known = self._pods.setdefault(uid, set())
            was = len(known)
            known.add(pod["name"])
            if was < len(known) == wanted:
                self._running.add(uid)
                self._keys.append(meta.Key("Trial", pod["namespace"], labels["quintile.dev/trial"]))
                self._news.notify_all()

    def changes(self, since: str) -> dict[str, object]:
        """Return the keys of trials that began to run after a cursor; waits for the first."""
        with self._news:
            if since:
                self._news.wait_for(lambda: len(self._keys) > int(since), timeout=25)
            keys = self._keys[int(since or 0) :] if since else []
            return {"keys": keys, "cursor": str(len(self._keys))}

    def facts(self, uid: str) -> facts.TrialFacts:
        """Return what the agents of a trial have reported."""
        if uid not in self._running:
            return facts.TrialFacts(uid)
        state = "succeeded" if self.done.is_set() else "running"
        return facts.TrialFacts(uid, attempt=1, generation=1, state=state, step=1)


def measure(
    kube: client_kube.KubeClient, operator: Operator, load: Load, agents: Agents
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
    wait(lambda: size(kube, f"/apis/batch/v1/namespaces/{many}/jobs") >= count)
    jobs_s = time.monotonic() - begun
    wait(lambda: running(kube, many) >= count * workers)
    pods_s = time.monotonic() - begun
    over.set()
    aside.join()
    rss = operator.rss_mb()
    agents.done.set()
    for namespace in (many, small):
        exit_well(kube, namespace)
    wait(lambda: ended(kube, many) + ended(kube, small) >= count + len(waits))
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
        wait(lambda: size(kube, path) > len(waits), every_s=0.02)
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


def wait(done: Callable[[], Any], *, every_s: float = 0.5) -> None:
    """Return when something is so.

    Raises:
        TimeoutError: It is not so in a quarter of an hour.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not get there in time")
        threading.Event().wait(every_s)


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


@contextlib.contextmanager
def stub(kube: client_kube.KubeClient, load: Load) -> Iterator[tuple[Agents, Load]]:
    """Serve facts in the place of API and labeling service."""
    agents = Agents(kube, load)
    still = {"keys": [], "cursor": "1"}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            route, _, query = self.path.partition("?")
            if not route.endswith("/changes"):
                known = agents.facts(route.rpartition("/")[2])
                body = fact_messages.TrialFactsView(trial=known).model_dump_json().encode()
            elif "/labeling/" in route:
                if "since=1" in query:
                    threading.Event().wait(25)
                body = json.dumps(still).encode()
            else:
                since = dict(parse.parse_qsl(query)).get("since", "")
                body = json.dumps(agents.changes(since)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for namespace in (load.many, load.small):
        threading.Thread(target=agents.follow, args=(namespace,), daemon=True).start()
    agents.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield agents, load
    finally:
        server.shutdown()


@contextlib.contextmanager
def started(places: tuple[str, ...], url: str) -> Iterator[Operator]:
    """Run the operator as a process; its log lies beside the program's temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        keys = pathlib.Path(folder)
        (keys / "trial.pem").write_bytes(tokens_ed25519.new_private_pem())
        (keys / "service-token").write_text(secrets.token_hex(16))
        port = 20000 + secrets.randbelow(20000)
        env = {
            **{name: text for name, text in os.environ.items() if not name.startswith("QUINTILE_")},
            "QUINTILE_KEYS": folder,
            "QUINTILE_HOST": "127.0.0.1",
            "QUINTILE_PORT": "0",
            "QUINTILE_METRICS_PORT": str(port),
            "QUINTILE_API_URL": url,
            "QUINTILE_KUBERNETES__NAMESPACES": ",".join(places),
            "QUINTILE_KUBERNETES__NAMESPACE": places[0],
            "QUINTILE_KUBERNETES__WORKER_IMAGE": "quintile-trainer:fake",
            "QUINTILE_KUBERNETES__NETWORK_POLICIES": "false",
            "QUINTILE_LOGS__LEVEL": os.environ.get("BENCH_LOG", "warning"),
        }
        process = subprocess.Popen([sys.executable, "-c", ON_KWOK], env=env)
        operator = Operator(process, port)
        try:
            wait(lambda: ready(operator))
            yield operator
        finally:
            process.terminate()
            process.wait(60)


def ready(operator: Operator) -> bool:
    """Return whether the operator is at work.

    Raises:
        SystemExit: It ended.
    """
    if operator.process.poll() is not None:
        raise SystemExit(f"the operator ended with code {operator.process.returncode}")
    with contextlib.suppress(OSError):
        url = f"http://127.0.0.1:{operator.port}/metrics"
        text = urllib.request.urlopen(url, timeout=5).read().decode()
        return "quintile_operator_leader 1.0" in text
    return False


if __name__ == "__main__":
    sys.exit(main())
