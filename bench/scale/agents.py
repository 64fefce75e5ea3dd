"""What stands for the agents of all trials: facts, as soon as all their pods run."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib import parse

from quintile.adapters import client_kube
from quintile.core import fact_messages, facts, meta


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
