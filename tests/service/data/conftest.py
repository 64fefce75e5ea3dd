"""One API with a directory of objects, and what a person does with datasets.

Jobs run when a test says so: ``world.work()`` does all that are queued, in the calling thread.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from anyio import from_thread
from PIL import Image

from quintile import ports, settings
from quintile.adapters import object_directory, signed_urls, sql, tokens_ed25519
from quintile.core import datasets, meta
from quintile.testing import clock as fake_clock
from quintile.testing import databases, stores
from quintile.testing import resources as fake_resources
from quintile_api import app as api_app
from quintile_api import context, eventlog, migrations
from quintile_api.data import service
from quintile_api.identity import sign_in

BASE = "http://localhost"
P = "/api/v1/projects/default"
PIECE_BYTES = 1024 * 1024
PEM = tokens_ed25519.new_private_pem()


class NoEvents:
    """An event log in which nothing happened."""

    def events(
        self, _namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> list[eventlog.EventView]:
        del kind, name, limit
        return []


class World:
    """An API on a real SQLite file and a real directory; ``restart`` is a new process on both."""

    def __init__(self, folder: pathlib.Path, portal: from_thread.BlockingPortal) -> None:
        self.folder = folder
        self.portal = portal
        self.clock = fake_clock.FakeClock(1_800_000_000.0)
        self.urls = signed_urls.UrlSigner(b"u" * 32, base_url=BASE)
        usual = object_directory.DirectoryObjectStore(
            folder / "store", urls=self.urls, clock=self.clock
        )
        self.objects: ports.ObjectStore = stores.of(folder, usual)
        self.resources = fake_resources.FakeResourceStore(clock=self.clock)
        self.signer = tokens_ed25519.TrialTokenSigner(PEM)
        self.start()

    def start(self) -> None:
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
                api_url=BASE,
                settings=settings.ApiSettings(join_wait_s=0.0),
                admin="ada",
            )
        )
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        token = sign_in.issue_api_token(self.ctx.database, self.clock, user="ada", name="test")
        self.client = httpx.AsyncClient(
            transport=transport, base_url=BASE, headers={"Authorization": f"Bearer {token}"}
        )

    def stop(self) -> None:
        self.app.state.background.stop()
        self.ctx.database.dispose()

    def restart(self, objects: ports.ObjectStore | None = None) -> None:
        self.stop()
        self.objects = objects or self.objects
        self.start()

    @property
    def ctx(self) -> context.Context:
        found = self.app.state.context
        assert isinstance(found, context.Context)
        return found

    @property
    def data(self) -> service.DataParts:
        found = self.app.state.data
        assert isinstance(found, service.DataParts)
        return found

    def request(self, method: str, path: str, **of: Any) -> httpx.Response:
        """Send a request; a path that does not begin with / is below the project."""
        url = path if path.startswith(("/", "http")) else f"{P}/{path}"
        answer = self.portal.call(functools.partial(self.client.request, method, url, **of))
        assert isinstance(answer, httpx.Response)
        return answer

    def get(self, path: str, **of: Any) -> httpx.Response:
        return self.request("GET", path, **of)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.request("POST", path, json=body)

    def dataset(self, name: str = "digits") -> str:
        assert self.post("datasets", {"name": name}).status_code == 201
        return name

    def upload(self, data: bytes, *, piece_bytes: int = PIECE_BYTES) -> str:
        """Send a source in pieces; return the id of the upload."""
        body = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        made = self.post("uploads", body)
        assert made.status_code == 201, made.text
        path = f"uploads/{made.json()['id']}"
        for offset in range(0, len(data), piece_bytes):
            piece = data[offset : offset + piece_bytes]
            answer = self.request("PUT", path, params={"offset": offset}, content=piece)
            assert answer.status_code == 200, answer.text
        assert answer.json()["complete"]
        return str(made.json()["id"])

    def begin(self, data: bytes, *, name: str = "digits", **fields: Any) -> httpx.Response:
        """Upload a source and ask for its import."""
        body = {"upload_id": self.upload(data), "kind": "zip", **fields}
        return self.post(f"datasets/{name}/imports", body)

    def work(self) -> None:
        while self.data.worker.run_next():
            pass

    def result(self, begun: httpx.Response) -> datasets.ImportView:
        """Do all queued work and return how an import ended."""
        assert begun.status_code == 202, begun.text
        self.work()
        body = begun.json()
        answer = self.get(f"datasets/{body['dataset']}/imports/{body['id']}")
        return datasets.ImportView.model_validate(answer.json())

    def imported(self, data: bytes, *, name: str = "digits", **fields: Any) -> datasets.ImportView:
        view = self.result(self.begin(data, name=name, **fields))
        assert view.state == "succeeded", view.problem
        return view

    def version(self, number: int = 0, *, name: str = "digits") -> datasets.VersionView:
        answer = self.get(f"datasets/{name}/versions/{number}")
        assert answer.status_code == 200, answer.text
        return datasets.VersionView.model_validate(answer.json())

    def versions(self, *, name: str = "digits") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"datasets/{name}/versions").json()["items"]
        return found

    def dataset_uid(self, *, name: str = "digits") -> str:
        return str(self.get(f"datasets/{name}").json()["uid"])

    def pixels(
        self, items: Iterable[datasets.ItemView], number: int = 0, *, name: str = "digits"
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """Return the decoded stored bytes by name of the item."""
        found = {}
        for item in items:
            path = f"datasets/{name}/versions/{number}/items/{item.item_id}/image"
            image = Image.open(io.BytesIO(self.get(path).content))
            found[item.name] = np.asarray(image)
        return found

    def items(self, number: int = 0, *, name: str = "digits") -> list[datasets.ItemView]:
        answer = self.get(f"datasets/{name}/versions/{number}/items.ndjson")
        assert answer.status_code == 200, answer.text
        lines = answer.text.splitlines()
        return [datasets.ItemView.model_validate_json(line) for line in lines]

    def labels(
        self, rows: Sequence[Mapping[str, Any]], *, name: str = "digits", **head: Any
    ) -> httpx.Response:
        """Make a version from label rows."""
        first = {"parent": 1, "classes": [], "idempotency_key": "job-1/2", **head}
        lines = [json.dumps(line) for line in (first, *rows)]
        return self.request(
            "POST",
            f"datasets/{name}/versions",
            content="\n".join(lines).encode(),
            headers={"Content-Type": "application/x-ndjson"},
        )

    def trial(self, dataset: Mapping[str, Any]) -> meta.Document:
        """A new Trial whose experiment trains on this dataset reference."""
        number = len(self.resources.list("Trial").items)
        return self.resources.apply(
            {
                "apiVersion": meta.API_VERSION,
                "kind": "Trial",
                "metadata": {"name": f"train-t{number}-abcdef", "namespace": "default"},
                "spec": {
                    "experiment": "train",
                    "experimentUid": "e1",
                    "number": number,
                    "hparams": [],
                    "template": {
                        "estimator": {"builtin": {"model": "resnet8"}},
                        "dataset": dict(dataset),
                    },
                },
            },
            manager="test",
        )

    def read_access(self, trial: meta.Document, **query: Any) -> httpx.Response:
        """Ask for the dataset of a trial, as its agent does."""
        claims = tokens_ed25519.TrialClaims(
            uid=trial["metadata"]["uid"],
            attempt=1,
            namespace="default",
            trial=trial["metadata"]["name"],
            expires_s=int(self.clock.now()) + 3600,
        )
        return self.get(
            f"/api/v1/internal/trials/{claims.uid}/dataset",
            params=query,
            headers={"Authorization": f"Bearer {self.signer.sign(claims)}"},
        )


def make_png(seed: int = 0, *, size: tuple[int, int] = (8, 8)) -> bytes:
    """A small grey image; another seed gives another one."""
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    return encode(Image.fromarray(pixels))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def make_zip(files: Mapping[str, bytes], *, deflate: bool = False) -> bytes:
    sink = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return sink.getvalue()


def make_npz(**arrays: Any) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


def make_npy(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


class Make:
    """The makers of sources, for tests (which import nothing from here)."""

    png = staticmethod(make_png)
    encode = staticmethod(encode)
    zip = staticmethod(make_zip)
    npz = staticmethod(make_npz)
    npy = staticmethod(make_npy)


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make


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
    made.stop()
    databases.drop(tmp_path / "api.db")


@pytest.fixture(scope="module")
def shared_world(
    tmp_path_factory: pytest.TempPathFactory,
    portal: from_thread.BlockingPortal,
    migrated: pathlib.Path,
) -> Iterator[World]:
    """A world for many requests of one module that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    databases.copy(migrated, folder / "api.db")
    made = World(folder, portal)
    yield made
    made.stop()
