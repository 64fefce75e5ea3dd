"""One labeling service on a real SQLite file, its people, and the workers of its rounds.

``world.restart()`` is a new process on the same database: everything in memory is gone.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import io
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fastapi
import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from anyio import from_thread

from quintile.adapters import sql, tokens_ed25519
from quintile.core import facts, labeling_job, meta, rounds, tasks
from quintile.engine import certify
from quintile.testing import clock as fake_clock
from quintile.testing import databases, stores
from quintile.testing import labeling as fakes
from quintile.testing import objects as fake_objects
from quintile.testing import resources as fake_resources
from quintile_labeling import app as labeling_app
from quintile_labeling import context, migrations
from quintile_labeling import facts as labeling_facts

BASE = "http://localhost"
V1 = "/api/v1"
P = f"{V1}/projects/default"
LABELS = ("cat", "dog", "eel")
PEM = tokens_ed25519.new_private_pem()
N_ITEMS = 120
_FAST = "PRAGMA synchronous=OFF"


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

    def patch(self, url: str, **of: Any) -> httpx.Response:
        return self.request("PATCH", url, **of)

    def delete(self, url: str, **of: Any) -> httpx.Response:
        return self.request("DELETE", url, **of)


def spec(**changes: Any) -> dict[str, Any]:
    """A small job: R of 60, batches of 10, lockstep unless it says otherwise."""
    return {
        "dataset": {"name": "pets", "version": 1},
        "labels": list(LABELS),
        "target": {"error": "0.1", "confidence": "0.9", "random": "40"},
        "strategy": {"batch": "10", "lookahead": 0},
        "budget": {"maxHumanLabels": "100", "maxRounds": 2},
        **changes,
    }


@dataclass
class World:
    """Everything around one labeling database."""

    folder: pathlib.Path
    portal: from_thread.BlockingPortal
    lease_s: float = 600.0

    def __post_init__(self) -> None:
        self.clock = fake_clock.FakeClock(1_800_000_000.0)
        self.objects = stores.of(self.folder, fake_objects.FakeObjectStore())
        self.resources = fake_resources.FakeResourceStore(clock=self.clock)
        self.catalog = fakes.FakeCatalog()
        self.identities = fakes.FakeIdentities()
        self.signer = tokens_ed25519.TrialTokenSigner(PEM)
        self.app = self.start()

    def start(self) -> fastapi.FastAPI:
        made = labeling_app.create_app(
            labeling_app.LabelingDependencies(
                engine_url=databases.at(self.folder / "labeling.db"),
                objects=self.objects,
                resources=self.resources,
                catalog=self.catalog,
                identities=self.identities,
                clock=self.clock,
                verifier=tokens_ed25519.TrialTokenVerifier(self.signer.public_pem()),
                service_token="service-secret",
                lease_s=self.lease_s,
            )
        )
        # Tests end processes, not power: without fsync they take a third of the time.
        database = made.state.context.database
        if database.is_sqlite:
            sa.event.listen(
                database.engine, "checkout", lambda link, *_: link.execute(_FAST).close()
            )
        return made

    def restart(self) -> None:
        self.ctx.database.dispose()
        self.app = self.start()

    @property
    def ctx(self) -> context.Context:
        found = self.app.state.context
        assert isinstance(found, context.Context)
        return found

    @property
    def facts(self) -> labeling_facts.JobFactsReader:
        return labeling_facts.JobFactsReader(self.ctx)

    def work(self) -> None:
        """Do all background work that is due."""
        self.app.state.background.run_until_idle()

    def anonymous(self) -> Client:
        return Client(self.app, self.portal)

    def bearer(self, token: str) -> Client:
        client = self.anonymous()
        client.headers["Authorization"] = f"Bearer {token}"
        return client

    def person(self, name: str = "ann", role: str | None = "labeler") -> Client:
        return self.bearer(self.identities.add(name, role=role))  # type: ignore[arg-type]

    def manager(self) -> Client:
        return self.person("max", "manager")

    def dataset(self, n_items: int = N_ITEMS, **of: Any) -> None:
        """Put version 1 of dataset pets; the true class is part of each name."""
        names = [f"{LABELS[row % 3]}-{row:05d}.png" for row in range(n_items)]
        self.catalog.add("default", "pets", 1, names=names, **of)

    def job(self, name: str = "pets", **changes: Any) -> Job:
        """An admitted job whose items are imported."""
        if ("default", "pets", 1) not in self.catalog._versions:
            self.dataset()
        body = {"name": name, "spec": spec(**changes)}
        answer = self.manager().post(f"{P}/labeling-jobs", json=body)
        assert answer.status_code == 201, answer.text
        self.work()
        return Job(self, name)

    def known_job(self, name: str) -> Job:
        """A job that exists already."""
        return Job(self, name)

    def trial_token(self, document: meta.Document, *, attempt: int = 1) -> str:
        claims = tokens_ed25519.TrialClaims(
            uid=document["metadata"]["uid"],
            attempt=attempt,
            namespace=document["metadata"]["namespace"],
            trial=document["metadata"]["name"],
            expires_s=int(self.clock.now()) + 86_400,
        )
        return self.signer.sign(claims)


def truth(name: str) -> int:
    """The true class of an item, by its name."""
    return LABELS.index(name.partition("-")[0])


@dataclass
class Job:
    """A labeling job and what happens around it."""

    world: World
    name: str
    counter: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{P}/labeling-jobs/{self.name}"

    @property
    def document(self) -> labeling_job.LabelingJob:
        key = meta.Key("LabelingJob", "default", self.name)
        return labeling_job.LabelingJob.model_validate(self.world.resources.get(key))

    @property
    def uid(self) -> str:
        return self.document.metadata.uid

    @property
    def known(self) -> facts.JobFacts:
        found = self.world.facts.job(self.uid)
        assert found is not None
        return found

    def get(self, route: str, **of: Any) -> Any:
        answer = self.world.person("vic", "viewer").get(f"{self.path}/{route}", **of)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def next(self, user: str = "ann", *, wait_s: float = 0, **body: Any) -> dict[str, Any]:
        answer = self.world.person(user).post(
            f"{self.path}/tasks/next", json=body, params={"wait_s": wait_s}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def answer(self, task: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """The true answer to a task, with a client_id of its own."""
        self.counter += 1
        return {
            "client_id": f"client-{self.name}-{self.counter:06d}",
            "slot_id": task["slot_id"],
            "lease": task["lease"],
            "item_id": task["item_id"],
            "base_revision": task["base_revision"],
            "payload": {"labels": [truth(task["name"])]},
            "seconds": 1.5,
            **changes,
        }

    def send(self, *answers: dict[str, Any], user: str = "ann") -> list[dict[str, Any]]:
        self.sent.extend(answers)
        answer = self.world.person(user).post(
            f"{self.path}/annotations", json={"answers": list(answers)}
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    def undo(self, item_id: str, user: str = "ann") -> httpx.Response:
        self.counter += 1
        body = {"client_id": f"undo-{self.name}-{self.counter:06d}", "item_id": item_id}
        return self.world.person(user).post(f"{self.path}/annotations/undo", json=body)

    def label(self, limit: int = 10_000, user: str = "ann", **of: Any) -> str:
        """Answer up to ``limit`` tasks truly; return why there are no more, "" at the limit."""
        done = 0
        while done < limit:
            batch = self.next(user, count=min(25, limit - done), **of)
            if not batch["tasks"]:
                return str(batch["waiting"])
            results = self.send(*(self.answer(task) for task in batch["tasks"]), user=user)
            assert {result["outcome"] for result in results} == {"accepted"}
            done += len(results)
        return ""

    def closed(self) -> facts.RoundFact:
        """The round that waits for its worker."""
        self.world.work()
        newest = self.known.rounds[-1]
        assert newest.state == "closed", newest
        return newest

    def worker(self, *, attempt: int = 1, fact: facts.RoundFact | None = None) -> Worker:
        """The worker of the closed round, as reconciler and agent would start it."""
        chosen = fact or self.closed()
        wanted = rounds.render(self.document, chosen).document()
        made = self.world.resources.apply(wanted, manager="test")
        name = f"{made['metadata']['name']}-t0-abcdef"
        trial = self.world.resources.apply(
            {
                "apiVersion": meta.API_VERSION,
                "kind": "Trial",
                "metadata": {
                    "name": name,
                    "namespace": "default",
                    "ownerReferences": [
                        meta.OwnerReference(
                            kind="Experiment",
                            name=made["metadata"]["name"],
                            uid=made["metadata"]["uid"],
                        ).document()
                    ],
                },
                "spec": {
                    "experiment": made["metadata"]["name"],
                    "experimentUid": made["metadata"]["uid"],
                    "number": 0,
                    "hparams": [],
                    "template": made["spec"],
                },
            },
            manager="test",
        )
        return Worker(self, chosen.number, trial, attempt)

    def compute(self) -> None:
        """Compute the closed round."""
        self.worker().run()

    def reach(self, state: str, user: str = "ann") -> None:
        """Label and compute until the job is in a state."""
        for _ in range(100):
            self.world.work()
            if self.known.state == state:
                return
            waiting = self.label(limit=25, user=user)
            self.world.work()
            if waiting == "RoundRunning" and self.known.state != state:
                self.compute()
        raise AssertionError(f"the job does not become {state}: {self.known}")

    def finish(self, user: str = "ann") -> None:
        """Label and compute until the job is exported."""
        self.reach("exported", user)


@dataclass
class Worker:
    """Computes a round over HTTP; its model knows the truth but for a few items."""

    job: Job
    number: int
    trial: meta.Document
    attempt: int

    def __post_init__(self) -> None:
        self.client = self.job.world.bearer(
            self.job.world.trial_token(self.trial, attempt=self.attempt)
        )
        self.path = f"{V1}/internal/labeling/{self.job.uid}/rounds/{self.number}"

    def open(self, **body: Any) -> httpx.Response:
        return self.client.post(f"{self.path}/open", json={"attempt": self.attempt, **body})

    def manifest(self) -> tasks.RoundManifest:
        answer = self.open()
        assert answer.status_code == 200, answer.text
        self.access = tasks.RoundAccess.model_validate(answer.json())
        key = self.access.manifest_url.removeprefix("https://objects.example.com/")
        data = self.job.world.objects.get(key.partition("?")[0])
        assert hashlib.sha256(data).hexdigest() == self.access.manifest_sha256
        return tasks.RoundManifest.model_validate_json(data)

    def put(self, name: str, data: bytes) -> dict[str, str]:
        key = self.access.uploads[name].key
        self.job.world.objects.put(key, data)
        return {f"{name}_key": key, f"{name}_sha256": hashlib.sha256(data).hexdigest()}

    def result(self, **changes: Any) -> dict[str, Any]:
        """What a good worker hands in."""
        manifest = self.manifest()
        items = sorted(
            self.job.world.catalog.items("default", "pets", 1), key=lambda item: item.item_id
        )
        ids = [item.item_id for item in items]
        body: dict[str, Any] = {
            "attempt": self.attempt,
            "number": self.number,
            "step": manifest.step,
            "model_sha256": "m" * 64,
        }
        labels = {item_id: class_id for item_id, _, class_id in manifest.labels}
        free = [one for one in ids if one not in labels and one not in set(manifest.exclude)]
        if manifest.step == "embed":
            body |= self.put("features", b"features")
        else:
            predicted, scores = think([item.name for item in items])
            body |= self.put(
                "predictions", pack_predictions(ids, predicted, scores, len(manifest.classes))
            )
            body["report"] = {
                "coverage": 0.5,
                "coverage_low": 0.4,
                "coverage_high": 0.6,
                "labels_left": 30,
                "labels_total": 70.0,
            }
        if manifest.step == "finalise":
            body |= self.finalise(manifest, ids, predicted, scores)
        else:
            body["order"] = free[: 2 * manifest.batch]
            body["reasons"] = [f"cat or dog ({row})" for row, _ in enumerate(body["order"])]
        return body | changes

    def finalise(
        self,
        manifest: tasks.RoundManifest,
        ids: list[str],
        predicted: np.ndarray[Any, Any],
        scores: np.ndarray[Any, Any],
    ) -> dict[str, Any]:
        row_of = {item_id: row for row, item_id in enumerate(ids)}
        human = np.zeros(len(ids), dtype=np.bool_)
        blocked = np.zeros(len(ids), dtype=np.bool_)
        for item_id, _, class_id in manifest.labels:
            (human if class_id >= 0 else blocked)[row_of[item_id]] = True
        index = np.array([row_of[item_id] for item_id, _ in manifest.random], dtype=np.int64)
        answers = np.array([class_id for _, class_id in manifest.random])
        order = np.argsort(-scores, kind="stable")
        ranks = np.empty(len(ids))
        ranks[order] = np.arange(len(ids)) / len(ids)
        table = certify.ScoreTable(
            scores=scores,
            human=human,
            blocked=blocked,
            random_index=index,
            random_rank=ranks[index],
            random_wrong=predicted[index] != answers,
            trained=np.zeros(0, dtype=np.int64),
        )
        issued = certify.certify(
            table, certify.Target.parse(manifest.target), commitment=manifest.commitment
        )
        buffer = io.BytesIO()
        np.savez(buffer, **table.arrays())
        return {
            **self.put("scores", buffer.getvalue()),
            "certificate": issued.certificate.document(),
            "accepted": [ids[row] for row in issued.accepted],
        }

    def hand_in(self, body: dict[str, Any]) -> httpx.Response:
        return self.client.post(f"{self.path}/result", json=body)

    def run(self) -> None:
        answer = self.hand_in(self.result())
        assert answer.status_code == 200, answer.text
        self.job.world.work()


def think(names: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the model says of items, and how sure it is: one in twelve is wrong and unsure."""
    predicted, scores = [], []
    for name in names:
        number = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
        wrong = number % 12 == 0
        predicted.append((truth(name) + wrong) % 3)
        scores.append(round((0.1 if wrong else 0.5) + (number % 1000) / 2500, 6))
    return np.array(predicted, dtype=np.int64), np.array(scores)


def pack_predictions(
    ids: list[str],
    predicted: np.ndarray[Any, Any],
    scores: np.ndarray[Any, Any],
    classes: int,
) -> bytes:
    probabilities = np.full((len(ids), classes), 0.1, dtype=np.float32)
    probabilities[np.arange(len(ids)), predicted] = 0.8
    buffer = io.BytesIO()
    np.savez(
        buffer,
        item_ids=np.array(ids),
        probabilities=probabilities,
        predicted=predicted,
        scores=scores,
    )
    return buffer.getvalue()


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls at the same time, each in its own thread; return their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [done.result(timeout=60) for done in [pool.submit(call) for call in calls]]


@pytest.fixture(scope="session")
def portal() -> Iterator[from_thread.BlockingPortal]:
    """One event loop for all requests of the session, as a server has one."""
    with from_thread.start_blocking_portal() as made:
        yield made


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A database with the newest schema and nothing in it."""
    path = tmp_path_factory.mktemp("schema") / "labeling.db"
    engine = sql.create_engine(databases.at(path))
    migrations.migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def world(
    tmp_path: pathlib.Path, portal: from_thread.BlockingPortal, migrated: pathlib.Path
) -> Iterator[World]:
    databases.copy(migrated, tmp_path / "labeling.db")
    made = World(tmp_path, portal)
    yield made
    made.app.state.background.stop()
    made.ctx.database.dispose()
    databases.drop(tmp_path / "labeling.db")


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    portal: from_thread.BlockingPortal,
    migrated: pathlib.Path,
) -> Iterator[World]:
    """A world for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("shared")
    databases.copy(migrated, folder / "labeling.db")
    made = World(folder, portal)
    yield made
    made.ctx.database.dispose()


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    return together


@pytest.fixture
def true_class() -> Callable[[str], int]:
    return truth
