"""One origin: the API passes the labeling service's paths on, whole and piece by piece."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import fastapi
import httpx
import pytest
from fastapi import responses

from quintile.adapters import http_figures
from quintile.testing import served, waiting
from quintile_api import forwarding

JOBS = "/api/v1/projects/p/labeling-jobs"


@dataclass
class Upstream:
    """A labeling service that tells what it saw."""

    more: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def app(self) -> fastapi.FastAPI:
        made = fastapi.FastAPI()

        @made.api_route(f"{JOBS}/{{rest:path}}", methods=["GET", "POST", "DELETE"])
        async def echo(request: fastapi.Request, rest: str) -> fastapi.Response:
            if rest == "stream":
                return responses.StreamingResponse(self._pieces(), media_type="text/csv")
            if rest == "long":
                return await self._long(request)
            body = await request.body()
            told = {
                "path": request.url.path,
                "query": request.url.query,
                "host": request.headers["host"],
                "auth": request.headers.get("authorization", ""),
                "cookie": request.headers.get("cookie", ""),
                "size": len(body),
            }
            answer = responses.JSONResponse(told, status_code=201)
            answer.headers.append("set-cookie", "a=1")
            answer.headers.append("set-cookie", "b=2")
            return answer

        return made

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"first\n"
        while not self.more.is_set():
            await _breathe()
        yield b"second\n"

    async def _long(self, request: fastapi.Request) -> fastapi.Response:
        self.asked.set()
        while not await request.is_disconnected():
            await _breathe()
        self.left.set()
        return fastapi.Response()


async def _breathe() -> None:
    import anyio

    await anyio.sleep(0.005)


def api() -> fastapi.FastAPI:
    made = fastapi.FastAPI()

    @made.get("/api/v1/me")
    def me() -> str:
        return "the API"

    return made


@dataclass
class Pair:
    """Both services behind sockets."""

    upstream: Upstream
    labeling: served.Served
    front: served.Served
    figures: http_figures.Figures

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.front.url, trust_env=False, timeout=30)


@pytest.fixture
def pair() -> Iterator[Pair]:
    upstream, figures = Upstream(), http_figures.Figures()
    with served.serving(upstream.app()) as labeling:
        app = forwarding.Forwarder(api(), labeling.url)
        with served.serving(http_figures.Counted(app, figures), on_stop=app.close) as front:
            yield Pair(upstream, labeling, front, figures)


def test_a_request_arrives_as_it_was_sent(pair: Pair) -> None:
    body = b"x" * 3_000_000
    with pair.client() as client:
        answer = client.post(
            f"{JOBS}/a%20b?x=1&y=%2F",
            content=body,
            headers={"Authorization": "Bearer t", "Host": "q.example.com", "Cookie": "c=d"},
        )
    assert answer.status_code == 201
    assert answer.json() == {
        "path": f"{JOBS}/a b",
        "query": "x=1&y=%2F",
        "host": "q.example.com",
        "auth": "Bearer t",
        "cookie": "c=d",
        "size": len(body),
    }
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_a_body_of_unknown_length_is_passed_on(pair: Pair) -> None:
    with pair.client() as client:
        answer = client.post(f"{JOBS}/x", content=iter([b"ab", b"", b"cd"]))
        assert answer.json()["size"] == 4
        assert client.delete(f"{JOBS}/x").json()["size"] == 0


def test_other_paths_stay_here(pair: Pair) -> None:
    with pair.client() as client:
        assert client.get("/api/v1/me").json() == "the API"


def test_an_answer_comes_piece_by_piece(pair: Pair) -> None:
    with pair.client() as client, client.stream("GET", f"{JOBS}/stream") as answer:
        pieces = answer.iter_text()
        assert next(pieces) == "first\n"
        pair.upstream.more.set()
        assert "".join(pieces) == "second\n"


def test_a_client_that_leaves_ends_the_request_upstream(pair: Pair) -> None:
    def ask() -> None:
        with pair.client() as client, pytest.raises(httpx.ReadTimeout):
            client.get(f"{JOBS}/long", timeout=httpx.Timeout(10, read=0.5))

    asking = threading.Thread(target=ask)
    asking.start()
    assert pair.upstream.asked.wait(20)
    assert pair.upstream.left.wait(20)
    asking.join(20)


def test_a_service_that_is_away_is_said_and_comes_back(pair: Pair) -> None:
    with pair.client() as client:
        pair.labeling.stop()
        answer = client.post(f"{JOBS}/x", content=b"abc")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "2"
        assert "The labeling service does not answer" in answer.json()["detail"]
        assert client.get("/api/v1/me").status_code == 200
        pair.labeling.start()
        waiting.until(lambda: client.post(f"{JOBS}/x", content=b"abc").status_code == 201)


def test_an_answer_that_breaks_off_is_not_taken_for_whole(pair: Pair) -> None:
    with pair.client() as client, client.stream("GET", f"{JOBS}/stream") as answer:
        pieces = answer.iter_text()
        assert next(pieces) == "first\n"
        pair.labeling.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)


def test_requests_are_counted_by_route_and_not_by_path(pair: Pair) -> None:
    with pair.client() as client:
        client.get("/api/v1/me")
        client.get("/nothing/here")
        client.get(f"{JOBS}/one")
        client.request("BREW", "/api/v1/me")
    seen = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in pair.figures.registry.collect()
        for sample in family.samples
        if sample.name == "quintile_http_requests_total"
    }
    assert seen == {
        ("GET", "/api/v1/me", "200"): 1,
        ("GET", "other", "404"): 1,
        ("GET", "labeling", "201"): 1,
        ("other", "/api/v1/me", "405"): 1,
    }
