"""The real API on a loopback port, real agents as processes, scripts and functions as bundles.

``server.stop()`` and ``server.start()`` are an API that goes away and comes back on its port with
the same database. Ranks run scripts without torch where they can, which start in 0.2 s.
"""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import socket
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import cloudpickle
import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from quintile import settings
from quintile.adapters import clock, object_directory, signed_urls, tokens_ed25519
from quintile.core import experiment, facts, meta, names
from quintile.testing import agents, databases
from quintile.testing import resources as fake_resources
from quintile_api import app as api_app
from quintile_api import eventlog
from quintile_api import facts as api_facts
from quintile_api.identity import sign_in
from quintile_api.runs import tables
from quintile_trainer import progress

PROJECT = "/api/v1/projects/default"
PEM = tokens_ed25519.new_private_pem()
SILENCE_S = 10.0
"""Longer than the disk of a small machine stands still now and then."""
PACE: Mapping[str, float] = {"join_wait_s": 5.0, "agent_silence_s": SILENCE_S}


class NoEvents:
    """An event log in which nothing happened."""

    def events(
        self, _namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> list[eventlog.EventView]:
        del kind, name, limit
        return []


class Server:
    """One API with a database in ``folder``."""

    def __init__(
        self, folder: pathlib.Path, *, host: str = "127.0.0.1", pace: Mapping[str, float] = {}
    ) -> None:
        self.folder = folder
        self.pace = pace
        self.host = host
        self.clock = clock.SystemClock()
        # Held for life, so that the port stays ours while the API is away.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind((host, 0))
        self.port = int(self._reserved.getsockname()[1])
        self.url = f"http://{host}:{self.port}"
        self.urls = signed_urls.UrlSigner(b"u" * 32, base_url=self.url)
        self.objects = object_directory.DirectoryObjectStore(
            folder / "objects", urls=self.urls, clock=self.clock
        )
        self.resources = fake_resources.FakeResourceStore(clock=self.clock)
        self.signer = tokens_ed25519.TrialTokenSigner(PEM)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.app: Any = None

    def start(self) -> None:
        """Serve; returns when the port answers."""
        self.app = api_app.create_app(
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
                api_url=self.url,
                settings=settings.ApiSettings(allowed_hosts=(self.host,), **{**PACE, **self.pace}),
                admin="ada",
            )
        )
        config = uvicorn.Config(self.app, log_level="critical", timeout_graceful_shutdown=1)
        server = self._server = uvicorn.Server(config)
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((self.host, self.port))
        listening.listen(64)
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        self._thread.start()
        agents.until(lambda: server.started, what="the API serves")

    def stop(self) -> None:
        """Go away, dropping every connection. Idempotent."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._server = None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._reserved.close()

    def admin(self) -> httpx.Client:
        """A client with all rights."""
        database = self.app.state.context.database
        token = sign_in.issue_api_token(database, self.clock, user="ada", name=str(time.time_ns()))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60.0)

    def facts(self, uid: str) -> facts.TrialFacts:
        """What the reconciler is told of a trial."""
        ctx = self.app.state.context
        return api_facts.TrialFactsReader(ctx.database, ctx.outbox).trial(uid)

    def checkpoints(self, uid: str) -> list[tuple[int, int]]:
        """(generation, step) of every committed checkpoint, oldest first."""
        row = tables.CheckpointRow
        query = sa.select(row.generation, row.step).where(row.trial_uid == uid)
        with self.app.state.context.database.read() as session:
            return sorted((g, s) for g, s in session.execute(query))


class Run:
    """One trial: its resource, its attempts, and what the API knows of it."""

    def __init__(self, server: Server, folder: pathlib.Path, spec: Mapping[str, Any]) -> None:
        self.server = server
        self.folder = folder
        self.name = "exp-t0-abcdef"
        hparams = spec.get("hparams", [])
        document = server.resources.apply(
            {
                "apiVersion": meta.API_VERSION,
                "kind": "Trial",
                "metadata": {"name": self.name, "namespace": "default"},
                "spec": {
                    "experiment": "exp",
                    "experimentUid": "experiment-uid",
                    "number": 0,
                    "hparams": hparams,
                    "template": dict(spec),
                },
            },
            manager="test",
        )
        self.trial = experiment.Trial.model_validate(document)
        self.uid = self.trial.metadata.uid
        self.attempts: list[agents.Attempt] = []

    def attempt(self, number: int = 1, **variables: str) -> agents.Attempt:
        """An attempt that can be started."""
        claims = tokens_ed25519.TrialClaims(
            uid=self.uid,
            attempt=number,
            namespace="default",
            trial=self.name,
            expires_s=int(time.time()) + 3600,
        )
        made = agents.Attempt(
            self.folder,
            self.server.url,
            self.server.signer.sign(claims),
            self.trial,
            attempt=number,
            variables=variables,
        )
        self.attempts.append(made)
        return made

    def start(self, number: int = 1, **variables: str) -> list[agents.Agent]:
        """Start all agents of an attempt."""
        return self.attempt(number, **variables).start()

    @property
    def facts(self) -> facts.TrialFacts:
        return self.server.facts(self.uid)

    def until(self, *, what: str, **facts: Any) -> None:
        """Wait until the API's facts have these values."""

        def holds() -> bool:
            known = self.facts
            return all(getattr(known, name) == value for name, value in facts.items())

        try:
            agents.until(holds, what=what)
        except TimeoutError as error:
            said = "\n".join(a.said for attempt in self.attempts for a in attempt.agents)
            raise TimeoutError(f"{error}; facts are {self.facts}\n{said}") from error

    def until_step(self, step: int) -> None:
        """Wait until rank 0 of the newest generation has done so many steps."""

        def newest() -> int:
            paths = sorted(
                self.folder.glob("*/g*/rank-0.progress"), key=lambda p: p.stat().st_mtime
            )
            return progress.read(paths[-1])[0] if paths else -1

        agents.until(lambda: newest() >= step, what=f"step {step}")

    def marks(self, name: str) -> list[str]:
        """Lines that ranks appended to a file of the run's folder."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def logs(self) -> list[dict[str, Any]]:
        """All log lines that the API holds."""
        path = f"{PROJECT}/trials/{self.name}/logs"
        with self.server.admin() as client:
            answer = client.get(path, params={"tail": 5000})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def points(self, generation: int, rank: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """(step, values) of every stored metric point, in order of seq."""
        row = tables.MetricRow
        query = (
            sa.select(row.seq, row.step, row.values)
            .where(row.trial_uid == self.uid, row.generation == generation, row.rank == rank)
            .order_by(row.seq)
        )
        with self.server.app.state.context.database.read() as session:
            found = [(seq, step, values) for seq, step, values in session.execute(query)]
        assert [seq for seq, _, _ in found] == list(range(len(found)))
        return [(step, values) for _, step, values in found]


class Bench:
    """Makes trials of scripts and functions on one server."""

    def __init__(self, server: Server, folder: pathlib.Path) -> None:
        self.server = server
        self.folder = folder
        self.runs: list[Run] = []

    def run(self, estimator: Mapping[str, Any], *, workers: int = 1, **spec: Any) -> Run:
        """A trial with this estimator block."""
        whole = {
            "estimator": dict(estimator),
            "run": {"workers": {"replicas": workers}, "deterministic": True},
            "checkpoint": {"everySteps": 10, "graceSeconds": 10},
            "telemetry": {"summaryEverySteps": 1},
            "failure": {"maxInPlaceRestarts": 2},
            **spec,
        }
        made = Run(self.server, self.folder, whole)
        self.runs.append(made)
        return made

    def script(
        self,
        code: str,
        *,
        args: tuple[str, ...] = (),
        entry: str = "train.py",
        variables: Mapping[str, str] | None = None,
        elastic: bool = False,
        **spec: Any,
    ) -> Run:
        """A trial whose program is this code; ``FOLDER`` in it is the run's folder."""
        told = {"FOLDER": str(self.folder), **(variables or {})}
        env = [{"name": name, "value": value} for name, value in told.items()]
        digest = self.bundle({"train.py": textwrap.dedent(code).encode()})
        block = {"bundle": digest, "entry": entry, "args": list(args)}
        block |= {"elastic": True} if elastic else {}
        return self.run({"script": block, "env": env}, **spec)

    def functions(
        self, given: Mapping[str, Any], *, hparams: Mapping[str, Any] | None = None, **spec: Any
    ) -> Run:
        """A trial of these functions."""
        digest = self.bundle({"functions.pkl": cloudpickle.dumps(dict(given))})
        texts = [{"name": k, "value": str(v)} for k, v in (hparams or {}).items()]
        return self.run({"functions": {"bundle": digest}}, hparams=texts, **spec)

    def bundle(self, members: Mapping[str, bytes]) -> str:
        """Store a bundle; return its digest."""
        header = {"format": 1, "python": f"{sys.version_info.major}.{sys.version_info.minor}"}
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("header.json", json.dumps(header))
            for name, data in members.items():
                archive.writestr(name, data)
        digest = hashlib.sha256(stream.getvalue()).hexdigest()
        self.server.objects.put(names.bundle_key(digest), stream.getvalue())
        return digest

    def end(self) -> None:
        """Kill every agent and rank that is left."""
        for run in self.runs:
            for attempt in run.attempts:
                attempt.end()


@pytest.fixture
def server_host() -> str:
    """The address of the API."""
    return "127.0.0.1"


@pytest.fixture
def server(
    tmp_path: pathlib.Path, server_host: str, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """The parameter, if there is one, is settings of the API."""
    pace = getattr(request, "param", {})
    made = Server(tmp_path / "server", host=server_host, pace=pace)
    made.start()
    yield made
    made.close()


@pytest.fixture
def bench(server: Server, tmp_path: pathlib.Path) -> Iterator[Bench]:
    folder = tmp_path / "runs"
    folder.mkdir()
    made = Bench(server, folder)
    yield made
    made.end()
