"""One API on a real SQLite file, its clock, its people and its agents.

``world.restart()`` is a new process on the same database: everything in memory is gone.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fastapi
import httpx
import pytest
from anyio import from_thread

from quintile import settings
from quintile.adapters import http_guard, signed_urls, sql, tokens_ed25519
from quintile.core import meta
from quintile.testing import clock as fake_clock
from quintile.testing import databases, stores
from quintile.testing import objects as fake_objects
from quintile.testing import resources as fake_resources
from quintile_api import app as api_app
from quintile_api import context, eventlog, facts, migrations
from quintile_api.identity import repository, sign_in

BASE = "http://localhost"
V1 = "/api/v1"
P = f"{V1}/projects/default"
SPEC: dict[str, Any] = {
    "estimator": {"builtin": {"model": "resnet8"}},
    "run": {"workers": {"replicas": 2}},
}
PEM = tokens_ed25519.new_private_pem()


class NoEvents:
    """An event log in which nothing happened."""

    def events(
        self, _namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> list[eventlog.EventView]:
        del kind, name, limit
        return []


class Client:
    """A blocking HTTP client on the application itself: no socket, the real ASGI stack."""

    def __init__(self, app: fastapi.FastAPI, portal: from_thread.BlockingPortal) -> None:
        self._portal = portal
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=BASE)
        self.headers = self._client.headers
        self.cookies = self._client.cookies

    def request(self, method: str, url: str, **of: Any) -> httpx.Response:
        answer = self._portal.call(functools.partial(self._client.request, method, url, **of))
        assert isinstance(answer, httpx.Response)
        return answer

    def get(self, url: str, **of: Any) -> httpx.Response:
        return self.request("GET", url, **of)

    def post(self, url: str, **of: Any) -> httpx.Response:
        return self.request("POST", url, **of)

    def put(self, url: str, **of: Any) -> httpx.Response:
        return self.request("PUT", url, **of)

    def delete(self, url: str, **of: Any) -> httpx.Response:
        return self.request("DELETE", url, **of)


@dataclass
class World:
    """Everything around one API database."""

    folder: pathlib.Path
    portal: from_thread.BlockingPortal
    settings: settings.ApiSettings = field(
        default_factory=lambda: settings.ApiSettings(join_wait_s=0.0)
    )

    def __post_init__(self) -> None:
        self.clock = fake_clock.FakeClock(1_800_000_000.0)
        self.urls = signed_urls.UrlSigner(b"u" * 32, base_url=BASE)
        usual = fake_objects.FakeObjectStore(
            url=lambda key, method, ttl_s: self.urls.url(
                key, method=method, expires_s=int(self.clock.now() + ttl_s)
            )
        )
        self.objects = stores.of(self.folder, usual)
        self.resources = fake_resources.FakeResourceStore(clock=self.clock)
        self.signer = tokens_ed25519.TrialTokenSigner(PEM)
        self.app = self.start()

    def start(self) -> fastapi.FastAPI:
        return api_app.create_app(
            api_app.ApiDependencies(
                engine_url=databases.at(self.folder / "api.db"),
                objects=self.objects,
                resources=self.resources,
                events=NoEvents(),
                clock=self.clock,
                verifier=tokens_ed25519.TrialTokenVerifier(self.signer.public_pem()),
                urls=self.urls,
                session_key=b"s" * 32,
                service_token="service-secret",
                api_url=BASE,
                settings=self.settings,
                admin="ada",
            )
        )

    def restart(self, **changes: Any) -> None:
        self.ctx.database.dispose()
        self.settings = self.settings.model_copy(update=changes)
        self.app = self.start()

    @property
    def ctx(self) -> context.Context:
        found = self.app.state.context
        assert isinstance(found, context.Context)
        return found

    @property
    def facts(self) -> facts.TrialFactsReader:
        return facts.TrialFactsReader(self.ctx.database, self.ctx.outbox)

    def anonymous(self) -> Client:
        return Client(self.app, self.portal)

    def bearer(self, token: str) -> Client:
        client = self.anonymous()
        client.headers["Authorization"] = f"Bearer {token}"
        return client

    def admin(self) -> Client:
        database, clock = self.ctx.database, self.clock
        return self.bearer(sign_in.issue_api_token(database, clock, user="ada", name="test"))

    def service(self) -> Client:
        return self.bearer("service-secret")

    def browser(self, user: str = "ada") -> Client:
        """A signed-in browser that behaves: it sends the CSRF header."""
        token = sign_in.issue_login_token(self.ctx.database, self.clock, user=user)
        client = self.anonymous()
        assert client.get("/login", params={"token": token}).status_code == 303
        client.headers[http_guard.CSRF_HEADER] = "1"
        return client

    def member(self, role: str | None) -> Client:
        """A person with this role in project default; None is no member of anything."""
        name = role or "stranger"
        with self.ctx.database.write() as session:
            repository.create_user(session, name, admin=False, now_s=self.clock.now())
            if role is not None:
                repository.set_member(session, "default", name, role)  # type: ignore[arg-type]
        token = sign_in.issue_api_token(self.ctx.database, self.clock, user=name, name="test")
        return self.bearer(token)

    def experiment(self, name: str = "digits", **spec: Any) -> meta.Document:
        answer = self.admin().post(f"{P}/experiments", json={"name": name, "spec": SPEC | spec})
        assert answer.status_code == 201, answer.text
        document: meta.Document = answer.json()
        return document

    def trial(self, experiment: str = "digits", **estimator: Any) -> Trial:
        """An Experiment and the Trial that the reconciler would make of it."""
        parent = self.experiment(experiment)
        document = self.resources.apply(
            {
                "apiVersion": meta.API_VERSION,
                "kind": "Trial",
                "metadata": {"name": f"{experiment}-t0-abcdef", "namespace": "default"},
                "spec": {
                    "experiment": experiment,
                    "experimentUid": parent["metadata"]["uid"],
                    "number": 0,
                    "hparams": [],
                    "template": {
                        **parent["spec"],
                        **({"estimator": estimator} if estimator else {}),
                    },
                },
            },
            manager="test",
        )
        return Trial(self, document)


@dataclass
class Trial:
    """A trial that agents can speak for."""

    world: World
    document: meta.Document

    @property
    def uid(self) -> str:
        return str(self.document["metadata"]["uid"])

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def path(self) -> str:
        return f"{P}/trials/{self.name}"

    def agent(
        self, index: int = 0, *, attempt: int = 1, boot: str = "a", members: int = 2
    ) -> Agent:
        return Agent(self, index=index, attempt=attempt, boot=boot, members=members)

    def agents(self, **of: Any) -> tuple[Agent, Agent]:
        return self.agent(0, **of), self.agent(1, **of)

    def end(self, phase: str = "Succeeded") -> None:
        key = meta.Key("Trial", "default", self.name)
        self.world.resources.patch_status(key, {"phase": phase}, uid=self.uid)


@dataclass
class Agent:
    """An agent that speaks plain JSON, as the real one does."""

    trial: Trial
    index: int
    attempt: int
    boot: str
    members: int
    generation: int = 0
    seq: int = 0
    evaluated: dict[str, float] = field(default_factory=lambda: {"loss": 0.5})

    def envelope(self) -> dict[str, Any]:
        self.seq += 1
        return {
            "attempt": self.attempt,
            "generation": self.generation,
            "boot_id": f"boot-{self.boot}-{self.index}",
            "seq": self.seq,
            "role": "worker",
            "index": self.index,
        }

    @property
    def client(self) -> Client:
        world = self.trial.world
        claims = tokens_ed25519.TrialClaims(
            uid=self.trial.uid,
            attempt=self.attempt,
            namespace="default",
            trial=self.trial.name,
            expires_s=int(world.clock.now()) + 86_400,
        )
        return world.bearer(world.signer.sign(claims))

    def post(self, route: str, **body: Any) -> httpx.Response:
        path = f"{V1}/internal/trials/{self.trial.uid}/{route}"
        return self.client.post(path, json={**self.envelope(), **body})

    def join(self, **body: Any) -> dict[str, Any]:
        default = {
            "members": {"worker": self.members},
            "host": "127.0.0.1",
            "port": 20_000 + self.index,
            "max_restarts": 2,
        }
        answer = self.post("join", **{**default, **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if found["state"] == "running":
            self.generation = found["generation"]
        return found

    def beat(self, *, step: int = -1, total: int = 100) -> httpx.Response:
        report = {
            "rank": self.index,
            "pid": 1,
            "state": "running",
            "step": step,
            "total_steps": total,
        }
        return self.post("heartbeat", ranks=[report])

    def exit(self, code: int, *, reason: str = "", error: str = "") -> httpx.Response:
        return self.post("exits", rank=self.index, exit_code=code, reason=reason, first_error=error)

    def metrics(self, *points: tuple[int, int, float]) -> httpx.Response:
        """Ship points (seq, step, loss)."""
        body = [
            {"seq": seq, "step": step, "time": 1.0, "values": {"loss": loss}}
            for seq, step, loss in points
        ]
        return self.post("metrics", rank=self.index, points=body)

    def logs(self, *lines: tuple[int, str]) -> httpx.Response:
        body = [{"seq": seq, "time": 1.0, "line": line} for seq, line in lines]
        return self.post("logs", rank=self.index, lines=body)

    def manifest(self, step: int, data: bytes = b"weights") -> dict[str, Any]:
        return {
            "format": 1,
            "trial_uid": self.trial.uid,
            "attempt": self.attempt,
            "generation": self.generation,
            "step": step,
            "epoch": 0,
            "cursor": step * 10,
            "world_size": 2,
            "dataset_digest": "d" * 64,
            "code_sha256": "",
            "metrics": self.evaluated,
            "files": [
                {
                    "path": "model.safetensors",
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            ],
        }

    def upload(self, step: int, data: bytes = b"weights") -> str:
        """Put the files of a checkpoint through the bytes route; return its prefix."""
        asked = self.post(
            "checkpoints/urls", step=step, files=["model.safetensors", "manifest.json"]
        )
        assert asked.status_code == 200, asked.text
        answer = asked.json()
        nobody = self.trial.world.anonymous()
        text = json.dumps(self.manifest(step, data)).encode()
        for name, body in (("model.safetensors", data), ("manifest.json", text)):
            assert nobody.put(answer["urls"][name], content=body).status_code == 201
        return str(answer["prefix"])

    def commit(self, step: int, prefix: str, data: bytes = b"weights") -> httpx.Response:
        return self.post("checkpoints", prefix=prefix, manifest=self.manifest(step, data))

    def checkpoint(self, step: int) -> None:
        answer = self.commit(step, self.upload(step))
        assert answer.status_code == 200, answer.text


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls at the same time, each in its own thread; return their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [done.result(timeout=30) for done in [pool.submit(call) for call in calls]]


@pytest.fixture(scope="session")
def portal() -> Iterator[from_thread.BlockingPortal]:
    """One event loop for all requests of the session, as a server has one."""
    with from_thread.start_blocking_portal() as made:
        yield made


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A database with the newest schema and nothing in it."""
    path = tmp_path_factory.mktemp("schema") / "api.db"
    engine = sql.create_engine(databases.at(path))
    migrations.migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def world(
    tmp_path: pathlib.Path, portal: from_thread.BlockingPortal, migrated: pathlib.Path
) -> Iterator[World]:
    databases.copy(migrated, tmp_path / "api.db")
    made = World(tmp_path, portal)
    yield made
    made.ctx.database.dispose()
    databases.drop(tmp_path / "api.db")


@pytest.fixture
def trial(world: World) -> Trial:
    return world.trial()


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    return together
