"""The async client against the real API: answers, errors, repeats, streams."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest

from quintile.core import datasets, errors
from quintile.sdk import blocking, configuration, retrying
from quintile.sdk.client import AsyncClient

SPEC = {"estimator": {"builtin": {}}, "dataset": {"name": "digits", "version": 1}}


def run_async(work: object) -> object:
    return asyncio.run(work)  # type: ignore[arg-type]


class TestErrors:
    def test_what_is_not_there(self, session: blocking.Session) -> None:
        with pytest.raises(errors.NotFound, match="missing"):
            session.run(session.client.datasets.get("default", "missing"))

    def test_a_taken_name(self, session: blocking.Session) -> None:
        wanted = datasets.DatasetCreate(name="digits")
        session.run(session.client.datasets.create("default", wanted))
        with pytest.raises(errors.Conflict):
            session.run(session.client.datasets.create("default", wanted))

    def test_a_wrong_token(self, world) -> None:  # type: ignore[no-untyped-def]
        found = blocking.Session(configuration.Connection(world.url, "qt_wrong"))
        with pytest.raises(errors.Unauthorized):
            found.run(found.client.identity())
        found.close()

    def test_a_spec_with_an_unknown_field_names_it(self, session: blocking.Session) -> None:
        body = {"name": "digits", "spec": {**SPEC, "colour": "red"}}
        with pytest.raises(errors.InvalidSpec) as caught:
            session.run(session.client.experiments.create("default", body))
        assert caught.value.field == "spec.colour"
        assert caught.value.hint

    def test_nobody_listens(self) -> None:
        client = AsyncClient("http://127.0.0.1:9", patience=retrying.NONE)

        async def ask() -> None:
            async with client:
                await client.accounts.version()

        with pytest.raises(errors.Unavailable, match="does not answer"):
            run_async(ask())

    @pytest.mark.parametrize(
        "address", ["localhost:8420", "http://:8420", "http://[::1", "http://localhost:99999"]
    )
    def test_an_address_that_is_none(self, address: str) -> None:
        with pytest.raises(errors.InvalidSpec, match="not one of a server"):
            AsyncClient(address)

    @pytest.mark.parametrize("token", ["qt_ä", "qt_a\nb", "qt_a b"])
    def test_a_token_that_is_none(self, token: str) -> None:
        with pytest.raises(errors.InvalidSpec, match="characters that no token has"):
            AsyncClient("http://localhost:8420", token=token)


class TestRepeats:
    def test_a_call_survives_a_restart(self, world, session: blocking.Session) -> None:  # type: ignore[no-untyped-def]
        session.run(session.client.datasets.create("default", datasets.DatasetCreate(name="kept")))
        world.stop()
        answers: list[str] = []

        def ask() -> None:
            view = session.run(session.client.datasets.get("default", "kept"))
            answers.append(view.name)

        asking = threading.Thread(target=ask)
        asking.start()
        world.start()
        asking.join(30)
        assert answers == ["kept"]

    def test_in_process_transport(self, world) -> None:  # type: ignore[no-untyped-def]
        async def ask() -> str:
            transport = httpx.ASGITransport(app=world.app)
            async with AsyncClient(
                world.url, token="service-secret", transport=transport
            ) as client:
                mine = await client.identity()
                theirs = await client.identity(authorization=f"Bearer {world.token()}")
                assert mine.kind == "service"
                return theirs.name

        assert run_async(ask()) == "ada"

    def test_a_service_hears_that_credentials_are_bad(self, world) -> None:  # type: ignore[no-untyped-def]
        async def ask() -> None:
            async with AsyncClient(world.url, token="service-secret") as client:
                await client.identity(authorization="Bearer qt_nobody")

        with pytest.raises(errors.Unauthorized):
            run_async(ask())


class TestLists:
    def test_pages_are_followed(self, session: blocking.Session) -> None:
        names = [f"set-{number:02d}" for number in range(7)]
        for name in names:
            wanted = datasets.DatasetCreate(name=name)
            session.run(session.client.datasets.create("default", wanted))
        assert [
            one.name for one in session.iterate(session.client.datasets.list("default"))
        ] == names

    def test_tokens_are_made_listed_and_revoked(self, session: blocking.Session) -> None:
        calls = session.client.accounts
        made = session.run(calls.create_token("ci", scope="viewer", days=1))
        assert made.token
        assert {one.name for one in session.iterate(calls.tokens())} == {"test", "ci"}
        session.run(calls.revoke_token(made.id))
        assert {one.name for one in session.iterate(calls.tokens())} == {"test"}
