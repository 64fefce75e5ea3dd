"""ResourceStore: the fake and the SQL store keep the contract; the SQL store lasts besides."""

from __future__ import annotations

import pathlib

import pytest

from quintile import ports
from quintile.adapters import resource_sql, sql
from quintile.core import errors
from quintile.testing import clock as fake_clock
from quintile.testing import databases
from quintile.testing import resources as fake_resources
from quintile.testing.resource_contract import KEY, KINDS, Contract, add, document, seen


class TestFake(Contract):
    @pytest.fixture
    def store(self) -> ports.ResourceStore:
        return fake_resources.FakeResourceStore(clock=fake_clock.FakeClock())


def opened(path: pathlib.Path) -> resource_sql.SqlResourceStore:
    database = sql.Database(sql.create_engine(databases.at(path)))
    return resource_sql.SqlResourceStore(database, clock=fake_clock.FakeClock())


class TestSql(Contract):
    @pytest.fixture
    def store(self, tmp_path: pathlib.Path) -> ports.ResourceStore:
        return opened(tmp_path / "resources.db")


def test_resources_survive_a_restart(tmp_path: pathlib.Path) -> None:
    made = add(opened(tmp_path / "r.db"))
    again = opened(tmp_path / "r.db")
    assert again.get(KEY) == made
    version = made["metadata"]["resourceVersion"]
    again.delete(KEY)
    assert seen(opened(tmp_path / "r.db"), version) == [("DELETED", "digits")]


def test_times_come_from_the_clock(tmp_path: pathlib.Path) -> None:
    made = add(opened(tmp_path / "r.db"))
    assert made["metadata"]["creationTimestamp"] == "2027-01-15T08:00:00Z"


def test_a_watch_sees_writes_of_another_process(tmp_path: pathlib.Path) -> None:
    ours, theirs = opened(tmp_path / "r.db"), opened(tmp_path / "r.db")
    watch = ours.watch(KINDS, since=ours.list("Trial").version, wait_s=30)
    add(theirs)
    assert next(watch).document["metadata"]["name"] == "digits"


def test_a_watch_from_before_forgotten_deletions_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_sql, "TOMBSTONES", 2)
    store = opened(tmp_path / "r.db")
    version = add(store)["metadata"]["resourceVersion"]
    for name in ("a", "b", "c", "d"):
        add(store, document(name))
        store.delete(KEY._replace(name=name))
    with pytest.raises(errors.Conflict, match="list again|List again"):
        seen(store, version)
    assert seen(store, store.list("Trial").version) == []
    assert ("ADDED", "digits") in seen(store, "")


def test_a_database_of_a_newer_release_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(resource_sql, "SCHEMA", 2)
        opened(tmp_path / "r.db")
    with pytest.raises(errors.Conflict, match="newer release"):
        opened(tmp_path / "r.db")


def test_a_version_of_another_store_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.InvalidSpec):
        seen(opened(tmp_path / "r.db"), "abc")
