"""The catalog over the SDK's client: an event loop of its own, blocking calls from any thread."""

from __future__ import annotations

import json
from concurrent import futures
from typing import Any

import httpx
import pytest

from quintile.core import datasets, errors
from quintile.sdk import client as sdk_client
from quintile.testing import labeling as fakes
from quintile_labeling import catalog

ITEMS = [fakes.item_view(f"{number}.png") for number in range(3)]


def answer(request: httpx.Request) -> httpx.Response:
    path = request.url.path.removeprefix("/api/v1")
    assert request.headers["Authorization"] == "Bearer service-secret"
    if path == "/identity":
        token = request.headers["X-Quintile-Forwarded-Authorization"]
        return httpx.Response(200, json={"kind": "user", "id": "1", "name": token[7:]})
    if path.endswith("/versions/1"):
        source = fakes.FakeCatalog()
        source.add("default", "pets", 1, names=["a", "b"])
        return httpx.Response(200, text=source.version("default", "pets", 1).model_dump_json())
    if "/versions/1/items" in path:
        lines = "".join(f"{item.model_dump_json()}\n" for item in ITEMS)
        if path.endswith("ndjson"):
            return httpx.Response(200, text=lines)
        items = [json.loads(item.model_dump_json()) for item in ITEMS]
        return httpx.Response(200, json={"items": items, "next_cursor": None})
    problem = {"type": "https://quintile.dev/problems/not-found", "status": 404, "detail": "No."}
    return httpx.Response(404, json=problem, headers={"Content-Type": "application/problem+json"})


@pytest.fixture
def source() -> Any:
    client = sdk_client.AsyncClient(
        "http://localhost", token="service-secret", transport=httpx.MockTransport(answer)
    )
    made = catalog.ClientCatalog(client)
    yield made
    made.close()
    made.close()


def test_versions_and_items(source: catalog.ClientCatalog) -> None:
    assert source.version("default", "pets", 1).items == 2
    assert list(source.items("default", "pets", 1)) == ITEMS
    with pytest.raises(errors.NotFound):
        source.version("default", "pets", 2)


def test_identities_are_forwarded_from_many_threads(source: catalog.ClientCatalog) -> None:
    def ask(number: int) -> str:
        return source.identity(authorization=f"Bearer {number}", cookie="").name

    with futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(50))) == [str(number) for number in range(50)]


def test_a_version_that_cannot_be_made(source: catalog.ClientCatalog) -> None:
    wanted = datasets.VersionCreate(parent=1, classes=["a"], idempotency_key="k")
    with pytest.raises(errors.NotFound):
        source.create_version("default", "pets", wanted, [])
