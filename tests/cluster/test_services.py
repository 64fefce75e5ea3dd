"""API and labeling service as real processes: PostgreSQL, S3, Kubernetes, and each of them away."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from quintile.adapters import facts_http, tokens_ed25519
from quintile.core import errors
from quintile.testing import clusters, postgres, real_s3, waiting

TOKEN = "service-secret"
PATIENCE_S = 90.0
JOBS = "labeling-jobs"


@dataclass
class Site:
    """Processes of one installation, and what they stand on."""

    folder: pathlib.Path
    namespace: str
    server: postgres.Server
    store: real_s3.Place
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = self.folder / "keys"
        keys.mkdir()
        signer = tokens_ed25519.TrialTokenSigner(tokens_ed25519.new_private_pem())
        (keys / "trial-public.pem").write_bytes(signer.public_pem())
        for name in ("session.key", "urls.key"):
            (keys / name).write_bytes(secrets.token_bytes(32))
        (keys / "service-token").write_text(TOKEN)
        self.ports = {name: free_port() for name in ("api", "labeling", "metrics", "second")}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def env(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "QUINTILE_" not in name}
        return {
            **kept,
            "QUINTILE_DATABASE__URL": self.server.url,
            "QUINTILE_S3__ENDPOINT": self.store.endpoint,
            "QUINTILE_S3__BUCKET": self.store.bucket,
            "QUINTILE_S3__ACCESS_KEY": self.store.access_key,
            "QUINTILE_S3__SECRET_KEY": self.store.secret_key,
            "QUINTILE_KEYS": str(self.folder / "keys"),
            "QUINTILE_API_URL": self.url("api"),
            "QUINTILE_LABELING_URL": self.url("labeling"),
            "QUINTILE_PUBLIC_URL": "https://quintile.example.com",
            "QUINTILE_KUBERNETES__NAMESPACES": self.namespace,
            "QUINTILE_METRICS_PORT": "0",
            **more,
        }

    def start(self, name: str, module: str, **more: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", module],
                stdout=log,
                stderr=log,
                env=self.env(QUINTILE_PORT=str(self.ports[name]), **more),
            )

    def start_labeling(self) -> None:
        self.start("labeling", "quintile_labeling.main")

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self.running.pop(name)
        process.send_signal(number)
        return process.wait(60)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "quintile_api.main", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
            env=self.env(),
        )
        return done.stdout.strip()

    def until_ready(self, *names: str) -> None:
        for name in names:
            waiting.until(lambda name=name: self.status(name) == 200, timeout_s=PATIENCE_S)  # type: ignore[misc]

    def status(self, name: str) -> int:
        assert self.running[name].poll() is None, (self.folder / f"{name}.log").read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url(name)}/readyz", trust_env=False).status_code
        return 0


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kube = clusters.client()
    place = real_s3.place()
    if place is None:
        pytest.skip(real_s3.MISSING)
    try:
        server = postgres.Server()
    except postgres.Missing as error:
        pytest.skip(str(error))
    with (
        contextlib.closing(server),
        real_s3.fresh_bucket(place) as bucket,
        clusters.namespaces(kube, "services") as (namespace,),
    ):
        made = Site(tmp_path_factory.mktemp("site"), namespace, server, bucket)
        # Two replicas of the API meet an empty database at the same time.
        made.start("api", "quintile_api.main", QUINTILE_METRICS_PORT=str(made.ports["metrics"]))
        made.start("second", "quintile_api.main")
        made.start_labeling()
        try:
            made.until_ready("api", "second", "labeling")
            yield made
        finally:
            for process in made.running.values():
                process.kill()
                process.wait(30)


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {site.run('admin-token')}"}
    base = f"{site.url('api')}/api/v1"
    with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=60) as made:
        yield made


def test_the_first_administrator_signs_in_by_link_once(site: Site) -> None:
    link = site.run("admin-link")
    assert link.startswith("https://quintile.example.com/login?token=")
    path = link.removeprefix("https://quintile.example.com")
    with httpx.Client(base_url=site.url("second"), trust_env=False) as browser:
        assert browser.get(path).status_code == 303
        assert browser.get("/api/v1/me").json()["admin"] is True
        assert httpx.get(f"{site.url('api')}{path}", trust_env=False).status_code in (401, 403)


def test_the_projects_are_the_namespaces(site: Site, client: httpx.Client) -> None:
    assert [entry["name"] for entry in client.get("/projects").json()["items"]] == [site.namespace]
    assert client.get(f"/projects/{site.namespace}/experiments").json()["items"] == []
    assert client.get(f"/projects/{site.namespace}/{JOBS}").json()["items"] == []


def test_bytes_and_resources_go_where_they_belong(site: Site, client: httpx.Client) -> None:
    bundle = b"not a bundle but bytes"
    digest = hashlib.sha256(bundle).hexdigest()
    assert client.put(f"/bundles/{digest}", content=bundle).status_code == 201
    assert any(digest in info.key for info in site.store.open().list(""))
    made = client.post(
        f"/projects/{site.namespace}/experiments",
        json={"name": "digits", "spec": {"estimator": {"builtin": {"model": "resnet8"}}}},
    )
    assert made.status_code == 201, made.text
    kube = clusters.client()
    path = f"/apis/quintile.dev/v1alpha1/namespaces/{site.namespace}/experiments/digits"
    assert kube.get(path)["metadata"]["uid"] == made.json()["metadata"]["uid"]


def test_facts_of_one_replica_reach_a_tail_of_another(site: Site) -> None:
    facts = facts_http.HttpFacts(site.url("second"), site.url("labeling"), TOKEN)
    cursor = facts.changed("", wait_s=0).cursor
    assert facts.changed(cursor, wait_s=0).keys == ()
    assert facts.trial("nobody").attempt == 0
    facts.close()
    stranger = facts_http.HttpFacts(site.url("api"), site.url("labeling"), "other")
    with pytest.raises(errors.Unauthorized):
        stranger.job("nobody")
    stranger.close()


def test_the_figures_are_on_their_own_port(site: Site, client: httpx.Client) -> None:
    client.get("/me")
    text = httpx.get(f"{site.url('metrics')}/metrics", trust_env=False).text
    assert 'route="/me",status="200"' in text.replace("/api/v1", "")
    assert 'quintile_agents{state="running"} 0.0' in text
    assert client.get("/metrics").status_code == 404


def test_the_labeling_service_goes_and_comes_back(site: Site, client: httpx.Client) -> None:
    assert site.stop("labeling", signal.SIGKILL) == -signal.SIGKILL
    away = client.get(f"/projects/{site.namespace}/{JOBS}")
    assert away.status_code == 503
    assert "The labeling service does not answer" in away.json()["detail"]
    assert client.get(f"/projects/{site.namespace}/experiments").status_code == 200
    site.start_labeling()
    site.until_ready("labeling")
    assert client.get(f"/projects/{site.namespace}/{JOBS}").status_code == 200


def test_the_database_goes_and_comes_back(site: Site, client: httpx.Client) -> None:
    site.server.stop()
    for path in ("/me", f"/projects/{site.namespace}/datasets", "/labeling/health"):
        assert client.get(path).status_code == 503, path
    ready = httpx.get(f"{site.url('api')}/readyz", trust_env=False)
    assert ready.status_code == 503
    assert "The database: The database did not answer" in ready.json()["detail"]
    assert "object store" not in ready.json()["detail"]
    site.server.start()
    site.until_ready("api", "second", "labeling")
    assert client.get("/me").status_code == 200
    assert client.get(f"/projects/{site.namespace}/{JOBS}").status_code == 200


def test_a_wrong_key_of_the_store_is_named(site: Site) -> None:
    site.ports["wrong"] = free_port()
    site.start("wrong", "quintile_api.main", QUINTILE_S3__SECRET_KEY="not-the-secret")
    waiting.until(lambda: site.status("wrong") == 503, timeout_s=PATIENCE_S)
    detail = httpx.get(f"{site.url('wrong')}/readyz", trust_env=False).json()["detail"]
    assert "The object store: " in detail
    assert "QUINTILE_S3__SECRET_KEY" in detail
    assert "not-the-secret" not in detail
    assert site.stop("wrong", signal.SIGKILL) == -signal.SIGKILL


def test_sigterm_ends_a_process_well(site: Site) -> None:
    assert site.stop("second") == 0
    log = (site.folder / "second.log").read_text()
    assert "stopping" in log
