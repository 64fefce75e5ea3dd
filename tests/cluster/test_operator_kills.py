"""The operator dies by SIGKILL, at every write and at any moment; what is left is always the same.

Its process, the API server, Jobs and their controller are real; pods are played by kwok, whose
nodes (label ``type=kwok``, taint ``kwok.x-k8s.io/node``) must be there, and end when they are
annotated. ``KILLS=200 pytest tests/cluster/test_operator_kills.py -s`` kills 200 times at random.
"""

from __future__ import annotations

import collections
import http.server
import itertools
import json
import os
import pathlib
import random
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from quintile import logs, settings
from quintile.adapters import client_kube, documents_kube, tokens_ed25519
from quintile.core import fact_messages, facts, meta
from quintile.testing import clusters, faults, forked, projects
from quintile_operator import canary, figures, handlers, main
from quintile_operator.manifests import marks

KILLS = int(os.environ.get("KILLS", "5"))
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
LIFE_S = 8.0
LIFE_WRITES = 30
"""The most that an operator writes before it dies; one that has less to do dies by the clock."""

WORKERS = 2
TIMES = ("lastTransitionTime", "startTime", "completionTime", "updatedTime", "time")
CHILDREN = (
    ("/api/v1", "secrets"),
    ("/api/v1", "services"),
    ("/apis/networking.k8s.io/v1", "networkpolicies"),
    ("/apis/batch/v1", "jobs"),
)
pytestmark = pytest.mark.timeout(600 + 10 * KILLS)


def operate(
    tell: Callable[[object], None], env: dict[str, str], at: int | None, fault: faults.Fault
) -> None:
    """Be an operator that leads; die at a write, or never."""
    os.environ.update(env)
    logs.configure(level="error")
    handlers.quieten()
    client = client_kube.load(agent="quintile-operator")
    faults.FaultyWrites(client, at=at, fault=fault, crash=faults.die)
    site = main.Site(settings.load(), client, figures.Figures(), canary.Canary(), threading.Event())
    main.build(site).loop.start()
    tell("works")
    site.stopped.wait()


def tell_facts(tell: Callable[[object], None], namespace: str) -> None:
    """Be API and labeling service: the ranks of every trial run that has pods."""
    kube = clusters.client()
    still = json.dumps({"keys": [], "cursor": "1"}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "/changes" in self.path:
                body = still
                if "since=&" not in self.path:
                    threading.Event().wait(25)
            else:
                known = known_of(kube, namespace, uid=self.path.rpartition("/")[2])
                body = fact_messages.TrialFactsView(trial=known).model_dump_json().encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Whoever asked was killed."""

    server = Server(("127.0.0.1", 0), Handler)
    tell(server.server_address[1])
    server.serve_forever()


def known_of(kube: client_kube.KubeClient, namespace: str, *, uid: str) -> facts.TrialFacts:
    selector = f"{marks.TRIAL_UID}={uid}"
    items = kube.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
    attempts = [int(pod["metadata"]["labels"][marks.ATTEMPT]) for pod in items]
    if not attempts:
        return facts.TrialFacts(uid)
    return facts.TrialFacts(uid, attempt=max(attempts), generation=1, state="running", step=1)


@dataclass
class Site(projects.Project):
    """A project, and what an operator of it is told."""

    env: dict[str, str]
    runtime: str

    def operator(self, at: int | None = None, fault: faults.Fault = "broken") -> forked.Forked:
        return forked.start(operate, self.env, at, fault)

    def experiment(self, name: str) -> None:
        run = {"mode": "ddp", "workers": {"replicas": WORKERS}}
        estimator = {"builtin": {"model": "resnet8"}}
        self.submit(name, {"estimator": estimator, "run": run, "runtime": self.runtime})

    def ours(self, plural: str) -> list[meta.Document]:
        items: list[meta.Document] = self.kube.get(self.path(plural))["items"]
        return items

    def phases(self) -> collections.Counter[str]:
        found = self.ours("experiments")
        return collections.Counter(item.get("status", {}).get("phase", "") for item in found)

    def exit_well(self, draw: random.Random | None = None) -> None:
        """Let pods that run end with code 0; with ``draw`` every second one."""
        body = {"metadata": {"annotations": {"fake/exit-code": "0"}}}
        for pod in self.ours("pods"):
            runs = pod.get("status", {}).get("phase") == "Running"
            if runs and (draw is None or draw.random() < 0.5):
                self.kube.patch(self.path("pods", pod["metadata"]["name"]), body)

    def finish(self, count: int) -> None:
        """Wait until all experiments are over; their pods end as they run."""

        def over() -> bool:
            self.exit_well()
            return self.phases()["Succeeded"] == count

        self.until(over)

    def left(self) -> dict[str, Any]:
        """Everything that one Experiment left, without uids, times and what comes from a uid."""
        children = [
            f"{plural}/{item['metadata']['name']}"
            for root, plural in CHILDREN
            for item in self.kube.get(
                f"{root}/namespaces/{self.namespace}/{plural}", labelSelector=marks.OURS
            )["items"]
        ]
        pods = [
            (
                pod["metadata"]["labels"][marks.JOB_NAME],
                pod["metadata"]["labels"][marks.INDEX],
                pod["status"]["phase"],
            )
            for pod in self.ours("pods")
        ]
        kinds = {
            plural: [{"spec": item["spec"], "status": item["status"]} for item in self.ours(plural)]
            for plural in ("experiments", "trials")
        }
        found = {**kinds, "children": sorted(children), "pods": sorted(pods)}
        text = json.dumps(_timeless(found))
        for trial in self.ours("trials"):
            text = text.replace(trial["metadata"]["name"], "TRIAL")
            text = text.replace(trial["spec"]["experimentUid"], "EXPERIMENT")
        return dict(json.loads(re.sub(r"(TRIAL-[a-z0-9-]+)-[a-z2-7]{6}\b", r"\1", text)))

    def clear(self) -> None:
        """Leave nothing for the next run."""
        for item in self.ours("experiments"):
            self.kube.delete(self.path("experiments", item["metadata"]["name"]), wait=True)
        self.until(lambda: not any(self.ours(one) for one in ("experiments", "trials", "pods")))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _timeless(entry) for key, entry in value.items() if key not in TIMES}
        if "conditions" in kept:
            kept["conditions"].sort(key=lambda one: one["type"])
        return kept
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kube = clusters.client()
    if not kube.get("/api/v1/nodes", labelSelector="type=kwok")["items"]:
        pytest.skip("the cluster has no nodes of kwok (label type=kwok)")
    runtime = f"played-{secrets.token_hex(3)}"
    keys = tmp_path_factory.mktemp("keys")
    (keys / "trial.pem").write_bytes(tokens_ed25519.new_private_pem())
    (keys / "service-token").write_text(secrets.token_hex(16))
    with clusters.namespaces(kube, "kills") as (namespace,):
        clusters.prepare(kube, namespace)
        kube.create(documents_kube.path("ClusterRuntime"), _runtime(runtime))
        told = forked.start(tell_facts, namespace)
        try:
            yield Site(kube, namespace, _env(namespace, keys, int(told.told())), runtime)
        finally:
            kube.delete(documents_kube.path("ClusterRuntime", None, runtime))
            told.end()


def _runtime(name: str) -> meta.Document:
    toleration = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}
    spec = {
        "image": "quintile-trainer:played",
        "nodeSelector": {"type": "kwok"},
        "tolerations": [toleration],
    }
    metadata = {"name": name}
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "ClusterRuntime",
        "metadata": metadata,
        "spec": spec,
    }


def _env(namespace: str, keys: pathlib.Path, port: int) -> dict[str, str]:
    egress = [{"ports": [{"protocol": "UDP", "port": 53}]}]
    return {
        "QUINTILE_KEYS": str(keys),
        "QUINTILE_API_URL": f"http://127.0.0.1:{port}",
        "QUINTILE_KUBERNETES__NAMESPACES": namespace,
        "QUINTILE_KUBERNETES__NAMESPACE": namespace,
        "QUINTILE_KUBERNETES__WORKER_IMAGE": "quintile-trainer:played",
        "QUINTILE_KUBERNETES__EGRESS": json.dumps(egress),
    }


def test_a_kill_at_any_write_changes_nothing_in_the_end(site: Site) -> None:
    expected, points = run_once(site, None, "broken"), 0
    assert len(expected["pods"]) == WORKERS
    assert expected["trials"][0]["status"]["attempt"] == 1
    for fault in ("crash before", "crash after"):
        for at in itertools.count():
            found = run_once(site, at, fault)
            if found is None:
                break
            assert found == expected, f"{fault} write {at}"
            points += 1
    sys.stdout.write(f"{points} kills at writes\n")
    assert points > 2 * WORKERS


def run_once(site: Site, at: int | None, fault: Any) -> Any:
    """Run an Experiment to its end with one operator after another; None: nobody died."""
    operators = [site.operator(at, fault)]
    try:
        site.experiment("recorded")

        def over() -> bool:
            if at is not None and len(operators) == 1 and not operators[0].lives:
                operators.append(site.operator())
            phases = site.phases()
            # Not before that is noted: nobody would know of ranks that ran while nobody looked.
            if phases["Running"]:
                site.exit_well()
            return phases["Succeeded"] == 1

        site.until(over)
        return site.left() if at is None or len(operators) == 2 else None
    finally:
        for operator in operators:
            operator.end()
        site.clear()


def test_kills_at_random_lose_and_double_nothing(site: Site) -> None:
    sys.stdout.write(f"KILL_SEED={SEED}\n")
    draw = random.Random(SEED)
    writing = 0
    for number in range(KILLS):
        site.experiment(f"random-{number:04d}")
        crash: faults.Fault = draw.choice(("crash before", "crash after"))
        operator = site.operator(draw.randrange(LIFE_WRITES), crash)
        ends = time.monotonic() + LIFE_S
        try:
            while operator.lives and time.monotonic() < ends:
                site.exit_well(draw)
                threading.Event().wait(projects.LOOK_S)
            writing += not operator.lives
        finally:
            operator.end()
    sys.stdout.write(f"{KILLS} kills, {writing} of them at a write\n")
    last = site.operator()
    try:
        site.finish(KILLS)
    finally:
        last.end()
    trials = site.ours("trials")
    assert len({trial["spec"]["experiment"] for trial in trials}) == len(trials) == KILLS
    told = [trial["status"] for trial in trials]
    assert {(one["attempt"], one.get("restarts", 0)) for one in told} == {(1, 0)}
    assert len(site.ours("jobs")) == KILLS
    labels = [pod["metadata"]["labels"] for pod in site.ours("pods")]
    pods = [(one[marks.JOB_NAME], one[marks.INDEX]) for one in labels]
    assert len(set(pods)) == len(pods) == KILLS * WORKERS
    site.clear()
