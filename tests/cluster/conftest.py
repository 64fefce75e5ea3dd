"""A platform whose API and reconciler run here and whose trials run in pods of a real cluster."""

from __future__ import annotations

import pathlib
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from quintile import settings
from quintile.adapters import (
    client_kube,
    clock,
    events_sql,
    facts_joined,
    object_directory,
    resource_kube,
    secrets_kube,
    signals,
    signed_urls,
    sql,
    tokens_ed25519,
)
from quintile.sdk import bundles
from quintile.sdk import client as clients
from quintile.testing import clusters, projects
from quintile.testing import facts as fake_facts
from quintile_api import app as api_app
from quintile_api import facts as api_facts
from quintile_api.identity import sign_in
from quintile_operator import executor_kubernetes, gate, loop, parts, reconciler, sources
from quintile_operator.manifests import pods


@dataclass
class Platform(projects.Project):
    """Everything that is needed to run trials in pods of one namespace."""

    url: str
    token: str
    executor: executor_kubernetes.KubernetesExecutor
    driver: loop.Loop

    def client(self) -> clients.AsyncClient:
        return clients.AsyncClient(self.url, token=self.token)

    def bundle(self, text: str) -> str:
        """Store a script as ``train.py``; return the sha256 of its bundle."""
        made = bundles.pack({"train.py": text.encode()}, {"kind": "script"}, entry="train.py")
        answer = httpx.put(
            f"{self.url}/api/v1/bundles/{made.sha256}",
            content=made.data,
            headers={"Authorization": f"Bearer {self.token}"},
            trust_env=False,
        )
        answer.raise_for_status()
        return made.sha256


def site(host: str) -> pods.PodSite:
    """What pods may reach is the name service and the API alone."""
    names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    egress = ({"ports": names}, {"to": [{"ipBlock": {"cidr": f"{host}/32"}}]})
    # No CPU is reserved, so that tests run beside others.
    return pods.PodSite(image=clusters.image(), egress=egress, pending_deadline_s=5.0, cpu_millis=0)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    clusters.image()
    kube = clusters.client()
    home = tmp_path_factory.mktemp("platform")
    with (
        clusters.namespaces(kube, "trials") as (namespace,),
        socket.create_server((clusters.own_address(kube), 0)) as listening,
    ):
        clusters.prepare(kube, namespace)
        yield from _run(kube, namespace, home, listening)


def _run(
    kube: client_kube.KubeClient, namespace: str, home: pathlib.Path, listening: socket.socket
) -> Iterator[Platform]:
    host, port = listening.getsockname()
    url, now = f"http://{host}:{port}", clock.SystemClock()
    database = sql.Database(sql.create_engine(f"sqlite:///{home}/events.db"))
    urls = signed_urls.UrlSigner(secrets.token_bytes(32), base_url=url)
    resources = resource_kube.KubeResourceStore(kube, (namespace,))
    events = events_sql.SqlEventSink(database, clock=now)
    signer = tokens_ed25519.TrialTokenSigner(tokens_ed25519.ensure_private_pem(home / "trial.pem"))
    app = api_app.create_app(
        api_app.ApiDependencies(
            engine_url=f"sqlite:///{home}/api.db",
            objects=object_directory.DirectoryObjectStore(home / "store", urls=urls, clock=now),
            resources=resources,
            events=events,
            clock=now,
            verifier=tokens_ed25519.TrialTokenVerifier(signer.public_pem()),
            urls=urls,
            session_key=secrets.token_bytes(32),
            service_token=secrets.token_hex(16),
            api_url=url,
            settings=settings.ApiSettings(allowed_hosts=(host,), elastic_cooldown_s=3.0),
            projects=(namespace,),
        )
    )
    context = app.state.context
    admin = sign_in.seed(context.database, now, admin="admin", projects=(namespace,))
    token = sign_in.issue_api_token(context.database, now, user=admin, name="tests")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    serving = threading.Thread(target=server.run, args=([listening],), daemon=True)
    serving.start()
    bell = signals.Signal()
    context.outbox.ring(bell)
    facts = facts_joined.JoinedFacts(
        api_facts.TrialFactsReader(context.database, context.outbox),
        fake_facts.FakeFacts(),
        bell=bell,
    )
    executor = executor_kubernetes.KubernetesExecutor(
        kube, site(host), clock=now, namespaces=(namespace,)
    )
    reconcile = reconciler.Reconciler(
        parts.Parts(
            resources=resources,
            executor=executor,
            facts=facts,
            events=events,
            clock=now,
            minter=signer,
            api_url=url,
            python="python",
            gate=gate.Gate(
                resources,
                lambda key: driver.mark(key),
                secrets_kube.WorkerSecrets(kube).check,
            ),
        )
    )
    driver = loop.Loop(reconcile, sources.local(resources, facts, loop.Pace()))
    executor.subscribe(driver.mark)
    driver.start()
    yield Platform(kube, namespace, url, token, executor, driver)
    driver.stop()
    executor.close()
    server.should_exit = True
    serving.join(10)
    database.dispose()
