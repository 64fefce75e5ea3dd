"""The copy of the cluster's objects: list, watch, list again, and nothing older over newer."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from quintile.adapters import client_kube
from quintile.core import errors, meta
from quintile.testing import waiting
from quintile_operator import mirror

PATH = "/api/v1/pods"


def document(name: str, version: int, *, value: str = "", namespace: str = "a") -> meta.Document:
    place = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    return {"metadata": place, "value": value}


class Cluster:
    """An API server whose lists and watches a test writes."""

    def __init__(self, *pages: list[meta.Document], version: int = 10) -> None:
        self.pages = list(pages)
        self.version = version
        self.events: queue.Queue[Any] = queue.Queue()
        self.lists: list[dict[str, Any]] = []
        self.watched: list[str] = []

    def get(self, path: str, **query: Any) -> meta.Document:
        self.lists.append(query)
        page = int(query.get("continue") or 0)
        more = str(page + 1) if page + 1 < len(self.pages) else ""
        place = {"resourceVersion": str(self.version), "continue": more}
        return {"metadata": place, "items": self.pages[page]}

    def watch(
        self, path: str, *, version: str, timeout_s: float, **query: Any
    ) -> Iterator[meta.Document]:
        self.watched.append(version)
        while True:
            event = self.events.get()
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            yield event

    def say(self, kind: str, said: meta.Document) -> None:
        self.events.put({"type": kind, "object": said})


class Copy:
    """A mirror of a cluster, and what it told."""

    def __init__(self, cluster: Cluster, *paths: str) -> None:
        client: Any = cluster
        self.mirror: mirror.Mirror[meta.Document] = mirror.Mirror(
            client,
            paths or (PATH,),
            selector="x=y",
            project=lambda found: found if found.get("value") != "foreign" else None,
            groups=lambda found: (found["metadata"]["name"][0], found["value"] == "foreign"),
        )
        self.heard: list[meta.Document] = []
        self.mirror.subscribe(self.heard.append)
        self.mirror.start()

    def values(self) -> dict[str, str]:
        return {found["metadata"]["name"]: found["value"] for found in self.mirror.all()}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster([document("a1", 3), document("a2", 4)], [document("b1", 5)])
    yield made
    made.events.put(None)


def test_all_pages_are_listed_with_the_selector(cluster: Cluster) -> None:
    copy = Copy(cluster)
    assert set(copy.values()) == {"a1", "a2", "b1"}
    assert [found["metadata"]["name"] for found in copy.mirror.of("b")] == ["b1"]
    assert len(copy.mirror.of(False)) == 3 and copy.mirror.of("c") == []
    assert {query["labelSelector"] for query in cluster.lists} == {"x=y"}
    assert len(cluster.lists) == 2 and copy.mirror.relists == 1
    copy.mirror.stop()


def test_a_watch_goes_on_where_the_list_ended_and_where_it_was_closed(cluster: Cluster) -> None:
    copy = Copy(cluster)
    cluster.say("MODIFIED", document("a1", 11, value="new"))
    cluster.say("BOOKMARK", document("", 20))
    cluster.events.put(None)
    cluster.say("DELETED", document("b1", 21))
    waiting.until(lambda: "b1" not in copy.values())
    assert copy.values() == {"a1": "new", "a2": ""}
    assert copy.mirror.of("b") == []
    assert cluster.watched[:2] == ["10", "20"]
    copy.mirror.stop()


def test_nothing_older_replaces_what_is_newer(cluster: Cluster) -> None:
    copy = Copy(cluster)
    copy.values()
    copy.mirror.put(document("a1", 30, value="written"))
    cluster.say("MODIFIED", document("a1", 29, value="old"))
    cluster.say("DELETED", document("a1", 28))
    cluster.say("ADDED", document("a3", 31))
    waiting.until(lambda: "a3" in copy.values())
    assert copy.values()["a1"] == "written"
    copy.mirror.drop("a", "a1")
    assert "a1" not in copy.values()
    copy.mirror.stop()


def test_a_watch_that_is_too_old_lists_again_and_forgets_what_is_gone(cluster: Cluster) -> None:
    copy = Copy(cluster)
    copy.values()
    copy.mirror.put(document("a9", 50))  # made meanwhile: the list is older than that
    cluster.pages, cluster.version = [[document("a2", 4), document("a4", 33)]], 40
    cluster.events.put(client_kube.Gone("too old"))
    waiting.until(lambda: set(copy.values()) == {"a2", "a4", "a9"})
    assert copy.mirror.relists == 2
    copy.mirror.stop()


def test_only_changes_are_told_and_objects_of_others_are_left_out(cluster: Cluster) -> None:
    copy = Copy(cluster)
    copy.values()
    copy.heard.clear()
    cluster.say("ADDED", document("c1", 41, value="foreign"))
    cluster.say("DELETED", document("a1", 42))
    waiting.until(lambda: copy.heard)
    assert [found["metadata"]["name"] for found in copy.heard] == ["a1"]
    assert "c1" not in copy.values()
    copy.mirror.stop()


def test_who_asks_before_the_first_list_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Away(Cluster):
        def get(self, path: str, **query: Any) -> meta.Document:
            raise errors.Unavailable("away")

    monkeypatch.setattr(mirror, "READY_S", 0.05)
    copy = Copy(Away())
    with pytest.raises(errors.Unavailable, match="could not be listed"):
        copy.mirror.of("a")
    copy.mirror.stop()
