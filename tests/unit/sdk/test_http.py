"""Requests: repeats, errors, pages and streams, over a transport that answers from a list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx
import pytest

from quintile.core import errors, problems
from quintile.sdk import http, retrying, views
from quintile.sdk.http import Call

T = TypeVar("T")
Reply = httpx.Response | Exception


class Line:
    """A transport with the replies of a server, a clock that only sleeping moves."""

    def __init__(self, *replies: Reply, patience: retrying.Patience | None = None) -> None:
        self.replies = list(replies)
        self.seen: list[httpx.Request] = []
        self.slept: list[float] = []
        self.now_s = 0.0
        client = httpx.AsyncClient(
            base_url="http://localhost", transport=httpx.MockTransport(self._answer)
        )
        self.http = http.Http(
            client,
            patience=patience or retrying.Patience(),
            sleep=self._sleep,
            now=lambda: self.now_s,
        )

    def run(self, work: Callable[[http.Http], Coroutine[Any, Any, T]]) -> T:
        async def whole() -> T:
            try:
                return await work(self.http)
            finally:
                await self.http.aclose()

        return asyncio.run(whole())

    def send(self, call: Call) -> httpx.Response:
        return self.run(lambda link: link.send(call))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def problem(status: int, kind: str = "", **of: Any) -> httpx.Response:
    body = {"type": f"https://quintile.dev/problems/{kind}", "detail": "It failed.", **of}
    return httpx.Response(status, json=body, headers=of.get("headers"))


AWAY = httpx.ConnectError("refused")
BROKEN = httpx.ReadError("reset")


class TestRepeats:
    def test_waits_double_and_the_answer_comes(self) -> None:
        line = Line(httpx.Response(200), AWAY, AWAY, httpx.Response(200, json={}))
        line.run(lambda link: link.send(Call("GET", "/version")))
        again = Line(AWAY, AWAY, AWAY, httpx.Response(204))
        assert again.send(Call("GET", "/version")).status_code == 204
        assert len(again.slept) == 3
        assert again.slept[0] < again.slept[1] < again.slept[2]

    def test_a_wrong_address_shows_early(self) -> None:
        line = Line(*[AWAY] * 50)
        with pytest.raises(errors.Unavailable, match="does not answer: refused"):
            line.send(Call("GET", "/version"))
        assert line.now_s <= retrying.Patience().first_contact_s

    def test_a_server_that_answered_before_is_waited_for(self) -> None:
        line = Line(httpx.Response(200), *[AWAY] * 300)

        async def twice(link: http.Http) -> None:
            await link.send(Call("GET", "/version"))
            await link.send(Call("GET", "/version"))

        with pytest.raises(errors.Unavailable):
            line.run(twice)
        assert 50 <= line.now_s <= retrying.Patience().total_s

    def test_retry_after_is_kept(self) -> None:
        busy = problem(503, "unavailable", headers={"Retry-After": "7"})
        line = Line(busy, httpx.Response(200))
        line.http._reached = True
        line.send(Call("GET", "/version"))
        assert line.slept == [7.0]

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 507])
    def test_other_answers_are_final(self, status: int) -> None:
        line = Line(problem(status))
        with pytest.raises(errors.QuintileError):
            line.send(Call("GET", "/version"))
        assert len(line.seen) == 1

    def test_equal_keys_for_every_try(self) -> None:
        line = Line(BROKEN, httpx.Response(201))
        line.send(Call("POST", "/x", json={}, repeat="keyed"))
        keys = {request.headers["Idempotency-Key"] for request in line.seen}
        assert len(line.seen) == 2
        assert len(keys) == 1

    def test_two_calls_have_two_keys(self) -> None:
        line = Line(httpx.Response(201), httpx.Response(201))

        async def twice(link: http.Http) -> None:
            for _ in range(2):
                await link.send(Call("POST", "/x", json={}, repeat="keyed"))

        line.run(twice)
        assert len({request.headers["Idempotency-Key"] for request in line.seen}) == 2

    def test_what_may_have_arrived_is_not_sent_again(self) -> None:
        line = Line(BROKEN, httpx.Response(201))
        with pytest.raises(errors.Unavailable):
            line.send(Call("POST", "/tokens", json={}, repeat="never"))
        assert len(line.seen) == 1

    def test_what_cannot_have_arrived_is(self) -> None:
        line = Line(AWAY, httpx.Response(201))
        line.send(Call("POST", "/tokens", json={}, repeat="never"))
        assert len(line.seen) == 2


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind", "expected"),
        [
            (422, "invalid-spec", errors.InvalidSpec),
            (413, "too-large", errors.TooLarge),
            (401, "unauthorized", errors.Unauthorized),
            (403, "forbidden", errors.Forbidden),
            (404, "not-found", errors.NotFound),
            (409, "conflict", errors.Conflict),
            (409, "fenced", errors.Fenced),
            (503, "unavailable", errors.Unavailable),
            (507, "store-full", errors.StoreFull),
            (500, "run-failed", errors.RunFailed),
            (500, "internal", errors.QuintileError),
            (418, "teapot", errors.QuintileError),
            (404, "", errors.NotFound),
            (429, "", errors.Unavailable),
            (502, "", errors.Unavailable),
        ],
    )
    def test_kinds(self, status: int, kind: str, expected: type[errors.QuintileError]) -> None:
        body = {"type": f"https://quintile.dev/problems/{kind}", "detail": "No."}
        found = problems.to_error(status, json.dumps(body).encode(), {})
        assert type(found) is expected

    def test_every_kind_of_the_family_is_known(self) -> None:
        known = {
            kind for kind in errors.QuintileError.__subclasses__() if "core" in kind.__module__
        }
        assert known == set(problems._KINDS)

    def test_words_are_kept(self) -> None:
        body = {
            "type": "https://quintile.dev/problems/invalid-spec",
            "detail": "The spec is invalid.",
            "hint": "Correct it.",
            "field": "spec.a",
            "errors": [{"field": "spec.a", "message": "no"}, {"field": "spec.b", "message": "too"}],
        }
        found = problems.to_error(422, json.dumps(body).encode(), {})
        assert found.message == "The spec is invalid.\n  spec.a: no\n  spec.b: too"
        assert (found.hint, found.field) == ("Correct it.", "spec.a")

    def test_an_answer_of_something_else(self) -> None:
        assert "status 502" in problems.to_error(502, b"<html>", {}).message
        line = Line(httpx.Response(200, text="<html>"))
        with pytest.raises(errors.QuintileError, match="not one that this release understands"):
            line.run(lambda link: link.model(Call("GET", "/version"), views.ServerVersion))

    @pytest.mark.parametrize(("text", "seconds"), [("3", 3.0), ("", 1.0), ("soon", 1.0), ("-1", 1)])
    def test_retry_after(self, text: str, seconds: float) -> None:
        assert problems.retry_after_s({"retry-after": text}) == seconds


class TestReading:
    def test_fields_of_a_newer_server_are_ignored(self) -> None:
        line = Line(httpx.Response(200, json={"version": "2", "api": "v1", "new": 1}))
        found = line.run(lambda link: link.model(Call("GET", "/version"), views.ServerVersion))
        assert found.version == "2"

    def test_pages_until_there_is_no_cursor(self) -> None:
        line = Line(
            httpx.Response(200, json={"items": [{"name": "a", "role": ""}], "next_cursor": "c1"}),
            httpx.Response(200, json={"items": [{"name": "b", "role": ""}], "next_cursor": None}),
        )

        async def names(link: http.Http) -> list[str]:
            call = Call("GET", "/projects")
            return [one.name async for one in link.pages(call, views.Project)]

        assert line.run(names) == ["a", "b"]
        assert [request.url.params.get("cursor") for request in line.seen] == [None, "c1"]

    def test_lines(self) -> None:
        line = Line(httpx.Response(200, text='{"name":"a","role":""}\n\n{"name":"b","role":""}\n'))

        async def names(link: http.Http) -> list[str]:
            call = Call("GET", "/projects")
            return [one.name async for one in link.lines(call, views.Project)]

        assert line.run(names) == ["a", "b"]


@pytest.mark.parametrize("attempt", [0, 1, 5, 40, 4000])
def test_waits_are_bounded(attempt: int) -> None:
    patience = retrying.Patience()
    for jitter in (0.0, 0.999):
        assert 0 < patience.delay_s(attempt, jitter=jitter) <= patience.longest_delay_s
    assert patience.delay_s(attempt, jitter=0.5, at_least_s=60.0) == 60.0
