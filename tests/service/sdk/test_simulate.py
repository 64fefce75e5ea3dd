"""The scripted annotator against the real labeling service, with rounds that never compute."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Iterator

import fastapi
import httpx
import pytest

from quintile.adapters import tokens_ed25519
from quintile.core import tasks
from quintile.sdk import simulate
from quintile.sdk.client import AsyncClient
from quintile.testing import clock as fake_clock
from quintile.testing import databases
from quintile.testing import labeling as fakes
from quintile.testing import objects as fake_objects
from quintile.testing import resources as fake_resources
from quintile_labeling import app as labeling_app

LABELS = ("cat", "dog", "eel")
NAMES = [f"{LABELS[number % 3]}-{number:05d}.png" for number in range(120)]
TRUTH = {name: name.partition("-")[0] for name in NAMES}
SPEC = {
    "dataset": {"name": "pets", "version": 1},
    "labels": list(LABELS),
    "target": {"error": "0.1", "confidence": "0.9", "random": "40"},
    "strategy": {"batch": "10", "lookahead": 0},
    "budget": {"maxHumanLabels": "100", "maxRounds": 2},
}


class Desk:
    """A labeling service in process, one person with a token."""

    def __init__(self, folder: pathlib.Path) -> None:
        clock = fake_clock.FakeClock()
        catalog, self.identities = fakes.FakeCatalog(), fakes.FakeIdentities()
        catalog.add("default", "pets", 1, names=NAMES)
        signer = tokens_ed25519.TrialTokenSigner(tokens_ed25519.new_private_pem())
        self.app: fastapi.FastAPI = labeling_app.create_app(
            labeling_app.LabelingDependencies(
                engine_url=databases.at(folder / "labeling.db"),
                objects=fake_objects.FakeObjectStore(),
                resources=fake_resources.FakeResourceStore(clock=clock),
                catalog=catalog,
                identities=self.identities,
                clock=clock,
                verifier=tokens_ed25519.TrialTokenVerifier(signer.public_pem()),
                service_token="service-secret",
            )
        )

    def client(self, name: str = "max") -> AsyncClient:
        transport = httpx.ASGITransport(app=self.app)
        token = self.identities.add(name, role="manager")
        return AsyncClient("http://localhost", token=token, transport=transport)

    async def answer(self, *names: str, count: int, noise: float = 0.0) -> list[simulate.Tally]:
        """Let annotators work at once until ``count`` answers are stored; then they leave."""
        told: dict[str, simulate.Tally] = {}
        async with self.client() as client:

            async def work(name: str) -> None:
                who = simulate.Annotator(truth=TRUTH, name=name, noise=noise)
                await simulate.run(
                    client,
                    "default",
                    "pets",
                    who,
                    on_progress=lambda tally: told.__setitem__(name, tally),
                )

            working = [asyncio.create_task(work(name)) for name in names]
            async with asyncio.timeout(30):
                while sum(one.answered for one in told.values()) < count:
                    await asyncio.sleep(0.01)
            for one in working:
                one.cancel()
            await asyncio.gather(*working, return_exceptions=True)
        return list(told.values())

    async def stats(self) -> tasks.JobStats:
        async with self.client() as client:
            return await client.labeling.stats("default", "pets")


@pytest.fixture
def desk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(simulate, "LONG_POLL_S", 0.1)
    found = Desk(tmp_path)

    async def create() -> None:
        async with found.client() as client:
            await client.labeling.create("default", {"name": "pets", "spec": SPEC})

    asyncio.run(create())
    found.app.state.background.run_until_idle()
    yield found
    found.app.state.context.database.dispose()


def test_answers_are_stored_once_each(desk: Desk) -> None:
    (tally,) = asyncio.run(desk.answer("ann", count=40))
    assert tally.outcomes == {"accepted": tally.answered}
    stats = asyncio.run(desk.stats())
    assert stats.human == stats.decisions == tally.answered
    assert stats.by_class["cat"] + stats.by_class["dog"] + stats.by_class["eel"] == stats.human


def test_two_at_once_never_get_the_same_task(desk: Desk) -> None:
    tallies = asyncio.run(desk.answer("ann", "bob", count=40))
    stats = asyncio.run(desk.stats())
    assert stats.human == stats.decisions == sum(one.answered for one in tallies)
    assert all(set(one.outcomes) <= {"accepted"} for one in tallies)


def test_what_is_right_is_right(desk: Desk) -> None:
    asyncio.run(desk.answer("ann", count=40))

    async def labels() -> dict[str, str | None]:
        async with desk.client() as client:
            found = client.labeling.items("default", "pets", source="human")
            return {item.name: item.label async for item in found}

    given = asyncio.run(labels())
    assert given == {name: TRUTH[name] for name in given}
    assert len(given) >= 40
