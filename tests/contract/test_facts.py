"""Facts: the fake, the joined readers of one process and the HTTP adapter keep the contract."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from quintile import ports
from quintile.adapters import facts_http, outbox, signals, signed_urls, sql, tokens_ed25519
from quintile.adapters import facts_joined as joined
from quintile.core import errors, facts, meta
from quintile.testing import clock as fake_clock
from quintile.testing import databases, served
from quintile.testing import facts as fake_facts
from quintile.testing import labeling as fake_labeling
from quintile.testing import objects as fake_objects
from quintile.testing import resources as fake_resources
from quintile_api import app as api_app
from quintile_api import eventlog
from quintile_api import facts as api_facts
from quintile_api import tables as api_tables
from quintile_labeling import app as labeling_app

TRIAL = meta.Key("Trial", "default", "digits-t0")
JOB = meta.Key("LabelingJob", "default", "parts")


@dataclass
class Subject:
    """Facts, and a way to let something happen to a key."""

    facts: ports.Facts
    happen: Callable[[meta.Key], None]


class Contract:
    """What all Facts do; a subclass gives the fixture ``subject``."""

    def test_the_first_cursor_is_now_and_brings_no_keys(self, subject: Subject) -> None:
        subject.happen(TRIAL)
        first = subject.facts.changed("", wait_s=5)
        assert first.keys == ()
        assert first.cursor
        assert subject.facts.changed(first.cursor, wait_s=0) == first

    def test_changes_come_in_order_and_equal_keys_once(self, subject: Subject) -> None:
        cursor = subject.facts.changed("", wait_s=0).cursor
        for _ in range(3):
            subject.happen(TRIAL)
        subject.happen(JOB)
        changes = subject.facts.changed(cursor, wait_s=0)
        assert sorted(changes.keys) == sorted((TRIAL, JOB))
        assert subject.facts.changed(changes.cursor, wait_s=0).keys == ()
        # At least once: an old cursor tells it all again.
        assert set(subject.facts.changed(cursor, wait_s=0).keys) == {TRIAL, JOB}

    @pytest.mark.parametrize("key", [TRIAL, JOB], ids=["trial", "job"])
    def test_waiting_ends_when_something_happens(self, subject: Subject, key: meta.Key) -> None:
        cursor = subject.facts.changed("", wait_s=0).cursor
        timer = threading.Timer(0.05, subject.happen, [key])
        timer.start()
        changes = subject.facts.changed(cursor, wait_s=30)
        timer.join()
        assert changes.keys == (key,)

    def test_what_nobody_spoke_of_is_empty(self, subject: Subject) -> None:
        assert subject.facts.trial("unknown") == facts.TrialFacts(uid="unknown")
        assert subject.facts.job("unknown") is None


class TestFake(Contract):
    @pytest.fixture
    def subject(self) -> Subject:
        fake = fake_facts.FakeFacts()

        def happen(key: meta.Key) -> None:
            if key.kind == "Trial":
                fake.put_trial(key, facts.TrialFacts(uid="t1", attempt=1))
            else:
                fake.put_job(key, facts.JobFacts(uid="j1", state="labeling"))

        return Subject(fake, happen)

    def test_a_job_is_admitted_once(self) -> None:
        fake = fake_facts.FakeFacts()
        document = {"kind": "LabelingJob", "metadata": {"name": "parts", "uid": "j1"}}
        assert fake.admit(document) == fake.admit(document) == fake.job("j1")

    def test_a_refusal_and_absence_are_raised(self) -> None:
        fake = fake_facts.FakeFacts()
        fake.refusal = errors.InvalidSpec("no such dataset")
        with pytest.raises(errors.InvalidSpec):
            fake.admit({"kind": "LabelingJob", "metadata": {"name": "parts", "uid": "j1"}})
        fake.away = True
        with pytest.raises(errors.Unavailable):
            fake.trial("t1")


class TestJoined(Contract):
    @pytest.fixture
    def subject(self, tmp_path: pathlib.Path) -> Subject:
        bell = signals.Signal()
        database, changes = half(tmp_path / "api.db", api_tables.Base.metadata, bell)
        other, others = half(tmp_path / "labeling.db", None, bell)
        boxes = {"Trial": (database, changes), "LabelingJob": (other, others)}

        def happen(key: meta.Key) -> None:
            where, box = boxes[key.kind]
            with where.write() as session:
                box.append(session, *key)

        trials = api_facts.TrialFactsReader(database, changes)
        return Subject(joined.JoinedFacts(trials, Jobs(others), bell=bell), happen)


class TestHttp(Contract):
    @pytest.fixture
    def services(self, tmp_path: pathlib.Path) -> Iterator[Services]:
        services = Services(tmp_path)
        yield services
        services.close()

    @pytest.fixture
    def subject(self, services: Services) -> Iterator[Subject]:
        over_http = services.facts()
        yield Subject(over_http, services.happen)
        over_http.close()

    def test_a_refusal_keeps_its_kind(self, subject: Subject) -> None:
        document = {
            "apiVersion": meta.API_VERSION,
            "kind": "LabelingJob",
            "metadata": {"name": "parts", "namespace": "default", "uid": "j1", "generation": 1},
            "spec": {
                "dataset": {"name": "none", "version": 1},
                "labels": ["a", "b"],
                "target": {"error": "0.1", "confidence": "0.9"},
                "budget": {"maxHumanLabels": "100"},
            },
        }
        with pytest.raises(errors.InvalidSpec, match="no version 1 of dataset 'none'"):
            subject.facts.admit(document)

    def test_a_half_that_is_away_does_not_hold_up_the_other(
        self, services: Services, subject: Subject
    ) -> None:
        cursor = subject.facts.changed("", wait_s=0).cursor
        services.labeling.stop()
        services.happen(TRIAL)
        changes = subject.facts.changed(cursor, wait_s=0)
        assert changes.keys == (TRIAL,)
        services.happen(JOB)
        with pytest.raises(errors.Unavailable, match="does not answer"):
            subject.facts.job("j1")
        services.labeling.start()
        assert subject.facts.changed(changes.cursor, wait_s=30).keys == (JOB,)

    def test_both_away_is_said(self, services: Services, subject: Subject) -> None:
        cursor = subject.facts.changed("", wait_s=0).cursor
        services.labeling.stop()
        services.api.stop()
        with pytest.raises(errors.Unavailable):
            subject.facts.changed(cursor, wait_s=0)

    def test_a_start_while_a_half_is_away_misses_nothing(self, services: Services) -> None:
        services.happen(JOB)
        services.labeling.stop()
        started = services.facts()
        cursor = started.changed("", wait_s=0).cursor
        services.labeling.start()
        assert started.changed(cursor, wait_s=30).keys == (JOB,)
        started.close()

    @pytest.mark.parametrize("token", ["other", "qt_known_nowhere"])
    def test_the_routes_open_for_the_service_token_alone(
        self, services: Services, token: str
    ) -> None:
        stranger = services.facts(token=token)
        for call in (
            lambda: stranger.changed("", wait_s=0),
            lambda: stranger.trial("t"),
            lambda: stranger.job("j"),
        ):
            with pytest.raises(errors.Unauthorized):
                call()
        stranger.close()


class Services:
    """Both services behind real sockets, each with its own database."""

    def __init__(self, folder: pathlib.Path) -> None:
        clock = fake_clock.FakeClock(1_800_000_000.0)
        resources = fake_resources.FakeResourceStore(clock=clock)
        verifier = tokens_ed25519.TrialTokenVerifier(
            tokens_ed25519.TrialTokenSigner(tokens_ed25519.new_private_pem()).public_pem()
        )
        api = api_app.create_app(
            api_app.ApiDependencies(
                engine_url=databases.at(folder / "api.db"),
                objects=fake_objects.FakeObjectStore(),
                resources=resources,
                events=NoEvents(),
                clock=clock,
                verifier=verifier,
                urls=signed_urls.UrlSigner(b"u" * 32, base_url="http://localhost"),
                session_key=b"s" * 32,
                service_token="secret",
                api_url="http://localhost",
            )
        )
        labeling = labeling_app.create_app(
            labeling_app.LabelingDependencies(
                engine_url=databases.at(folder / "labeling.db"),
                objects=fake_objects.FakeObjectStore(),
                resources=resources,
                catalog=fake_labeling.FakeCatalog(),
                identities=fake_labeling.FakeIdentities(),
                clock=clock,
                verifier=verifier,
                service_token="secret",
            )
        )
        self._contexts = {"Trial": api.state.context, "LabelingJob": labeling.state.context}
        self.api, self.labeling = served.Served(api), served.Served(labeling)

    def facts(self, token: str = "secret") -> facts_http.HttpFacts:
        return facts_http.HttpFacts(self.api.url, self.labeling.url, token)

    def happen(self, key: meta.Key) -> None:
        ctx = self._contexts[key.kind]
        with ctx.database.write() as session:
            ctx.outbox.append(session, *key)

    def close(self) -> None:
        self.api.stop()
        self.labeling.stop()
        for ctx in self._contexts.values():
            ctx.database.dispose()


class NoEvents:
    """An event log in which nothing happened."""

    def events(
        self, _namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> list[eventlog.EventView]:
        del kind, name, limit
        return []


class Jobs:
    """The labeling service's half with an outbox of its own and no jobs."""

    def __init__(self, changes: outbox.Outbox) -> None:
        self._changes = changes

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        return self._changes.changed(since, wait_s=wait_s)

    def job(self, _uid: str) -> facts.JobFacts | None:
        return None

    def admit(self, document: meta.Document) -> facts.JobFacts:
        raise errors.Unavailable(f"{meta.key_of(document)} cannot be taken.")


def half(
    path: pathlib.Path, metadata: sa.MetaData | None, bell: signals.Signal
) -> tuple[sql.Database, outbox.Outbox]:
    engine = sql.create_engine(databases.at(path))
    if metadata is None:
        metadata = sa.MetaData()
        rows = outbox.table(metadata)
    else:
        rows = api_tables.OUTBOX
    metadata.create_all(engine)
    database = sql.Database(engine)
    changes = outbox.Outbox(database, rows)
    changes.ring(bell)
    return database, changes
