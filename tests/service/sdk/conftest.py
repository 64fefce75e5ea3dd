"""The real API on a loopback port, and the SDK and command line talking to it over HTTP.

``world.restart()`` is another process on the same database and the same port.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fastapi
import pytest
import uvicorn

from quintile import settings
from quintile.adapters import object_directory, signed_urls, sql, tokens_ed25519
from quintile.cli import main as program
from quintile.core import meta
from quintile.sdk import blocking, configuration
from quintile.testing import clock as fake_clock
from quintile.testing import databases, waiting
from quintile.testing import resources as fake_resources
from quintile_api import app as api_app
from quintile_api import eventlog, migrations
from quintile_api.identity import sign_in
from quintile_api.runs import tables

PEM = tokens_ed25519.new_private_pem()
DEADLINE_S = 20.0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class NoEvents:
    """An event log in which nothing happened."""

    def events(
        self, _namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> list[eventlog.EventView]:
        del kind, name, limit
        return []


class Server:
    """An ASGI application on a loopback port, in a thread of its own."""

    def __init__(self, app: fastapi.FastAPI, port: int) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            app, log_level="critical", timeout_graceful_shutdown=1, lifespan="on"
        )
        self._server = uvicorn.Server(config)
        run = self._server.run
        self._thread = threading.Thread(target=run, kwargs={"sockets": [self._listener]})
        self._thread.start()
        waiting.until(lambda: self._server.started)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)
        self._listener.close()


class World:
    """Everything around one API database."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.clock = fake_clock.FakeClock(time.time())
        self.resources = fake_resources.FakeResourceStore(clock=self.clock)
        self.signer = tokens_ed25519.TrialTokenSigner(PEM)
        self.port = 0
        self.start()

    def start(self) -> None:
        urls = signed_urls.UrlSigner(b"u" * 32, base_url="http://localhost")
        self.app = api_app.create_app(
            api_app.ApiDependencies(
                engine_url=databases.at(self.folder / "api.db"),
                objects=object_directory.DirectoryObjectStore(
                    self.folder / "store", urls=urls, clock=self.clock
                ),
                resources=self.resources,
                events=NoEvents(),
                clock=self.clock,
                verifier=tokens_ed25519.TrialTokenVerifier(self.signer.public_pem()),
                urls=urls,
                session_key=b"s" * 32,
                service_token="service-secret",
                api_url="http://localhost",
                settings=settings.ApiSettings(join_wait_s=0.0),
                admin="ada",
            )
        )
        self._server = Server(self.app, self.port)
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop()
        self.app.state.context.database.dispose()

    def restart(self) -> None:
        self.stop()
        self.start()

    def token(self) -> str:
        context = self.app.state.context
        return sign_in.issue_api_token(context.database, self.clock, user="ada", name="test")

    def trial(self, experiment: str, *, phase: str = "", **status: Any) -> str:
        """Make the trial that the reconciler would make of an experiment; return its name."""
        parent = self.resources.get(meta.Key("Experiment", "default", experiment))
        name = f"{experiment}-t0-abcdef"
        self.resources.apply(
            {
                "apiVersion": meta.API_VERSION,
                "kind": "Trial",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "experiment": experiment,
                    "experimentUid": parent["metadata"]["uid"],
                    "number": 0,
                    "hparams": parent["spec"].get("hparams", []),
                    "template": parent["spec"],
                },
            },
            manager="test",
        )
        if phase:
            self.set_status(name, phase=phase, **status)
        return name

    def set_status(self, trial: str, **status: Any) -> None:
        key = meta.Key("Trial", "default", trial)
        uid = self.resources.get(key)["metadata"]["uid"]
        self.resources.patch_status(key, status, uid=uid)

    def report(self, trial: str, *, step: int, values: dict[str, float]) -> None:
        """Store what rank 0 of a trial would report."""
        uid = self.resources.get(meta.Key("Trial", "default", trial))["metadata"]["uid"]
        place = {"trial_uid": uid, "attempt": 1, "generation": 1, "rank": 0, "seq": step}
        with self.app.state.context.database.write() as session:
            session.add(tables.MetricRow(**place, step=step, time_s=1.0, values=values))

    def quintile(self, *words: str, text: str = "") -> Done:
        """Run a command of the command line, connected to this API."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("QUINTILE")}
        for name in kept:
            del os.environ[name]
        os.environ |= {"QUINTILE_URL": self.url, "QUINTILE_TOKEN": self.token()}
        out, err, stdin = io.StringIO(), io.StringIO(), sys.stdin
        sys.stdin = io.StringIO(text)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                program.main(words)
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
            return Done(code, out.getvalue(), err.getvalue())
        finally:
            sys.stdin = stdin
            del os.environ["QUINTILE_URL"], os.environ["QUINTILE_TOKEN"]
            os.environ |= kept
        return Done(0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A migrated database file; copying it is quicker than migrating again."""
    folder = tmp_path_factory.mktemp("migrated")
    engine = sql.create_engine(databases.at(folder / "api.db"))
    migrations.migrate(engine)
    engine.dispose()
    return folder / "api.db"


@pytest.fixture
def world(tmp_path: pathlib.Path, migrated: pathlib.Path) -> Iterator[World]:
    databases.copy(migrated, tmp_path / "api.db")
    found = World(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(databases.drop, tmp_path / "api.db")
        stack.callback(found.stop)
        yield found


@pytest.fixture
def session(world: World) -> Iterator[blocking.Session]:
    """The SDK connected to the world; handles use it."""
    connection = configuration.Connection(world.url, world.token())
    found = blocking.use(blocking.Session(connection))
    yield found
    found.close()
    blocking.forget()
