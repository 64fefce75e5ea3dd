"""A labeling job from creation to the exported version."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from quintile.engine import certify, stratum


def rows_of(job: Any, **query: Any) -> list[dict[str, str]]:
    client = job.world.person("vic", "viewer")
    answer = client.get(f"{job.path}/labels.csv", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_a_whole_life_in_lockstep(world: Any, true_class: Callable[[str], int]) -> None:
    job = world.job()
    job.finish()
    known = job.known
    assert known.state == "exported"
    assert known.output_version == 2
    assert [fact.step for fact in known.rounds] == ["embed", "learn", "finalise"]
    assert known.outcome in ("Certified", "CertifiedPartial")
    assert known.certified_error is not None
    assert known.certified_error <= 0.1
    made, rows = next(iter(world.catalog.made.values()))
    assert made.version == 2
    people = [row for row in rows if row.source == "human"]
    machine = [row for row in rows if row.source == "auto"]
    assert len(people) == known.human
    assert len(machine) == known.auto > 20
    assert all(row.annotation_id and not row.certificate_id for row in people)
    assert all(row.certificate_id and row.model_sha256 == "m" * 64 for row in machine)
    names = {item.item_id: item.name for item in world.catalog.items("default", "pets", 1)}
    wrong = [
        row for row in rows if row.label != ("cat", "dog", "eel")[true_class(names[row.item_id])]
    ]
    assert len(wrong) <= known.certified_error * len(names)
    assert job.next()["waiting"] == "Finished"


def test_the_views_tell_one_story(world: Any) -> None:
    job = world.job()
    job.finish()
    stats = job.get("stats")
    assert stats["items"] == 120
    assert stats["human"] + stats["auto"] + stats["uncovered"] == 120
    assert stats["by_author"] == {"ann": stats["human"]}
    assert sum(stats["by_class"].values()) == stats["human"]
    assert stats["seconds_p50"] == 1.5
    assert stats["spent"] == stats["decisions"] == stats["human"] <= stats["budget"]
    views = job.get("rounds")["items"]
    assert [view["state"] for view in views] == ["ingested"] * 3
    assert [view["human"] for view in views] == [0, 50, 60]
    assert views[1]["coverage"] == 0.5
    assert views[1]["experiment"].startswith("pets-r1-")
    curve = job.get("curve")
    assert [(point["round"], point["human_labels"]) for point in curve] == [(1, 50), (2, 60)]
    assert curve[0]["human_label_fraction"] == 50 / 120
    certificate = job.get("certificate")
    assert certificate["accepted"] >= stats["auto"]
    assert certificate["uncovered"] == stats["uncovered"]
    assert not certificate["stale"]
    assert len(certificate["lines"]) == 2


def test_the_certificate_can_be_checked_again(world: Any) -> None:
    job = world.job()
    job.finish()
    view = job.get("certificate")
    answer = world.person("vic", "viewer").get(f"{job.path}/certificate/scores")
    stored = np.load(io.BytesIO(answer.content))
    table = certify.ScoreTable.read(stored)
    issued = certify.Certificate.read(view["document"])
    assert certify.verify(issued, table) == ()
    opened = stratum.commitment(120, seed=view["seed"], salt=view["salt"])
    assert opened == view["seed_sha256"] == job.known.random_commitment


def test_tables_show_what_is_certified_and_what_is_not(world: Any) -> None:
    job = world.job(finish={"uncovered": "leave"})
    job.finish()
    certified, filled = rows_of(job), rows_of(job, uncertified="true")
    assert [row["item_id"] for row in certified] == sorted(row["item_id"] for row in certified)
    assert len(certified) == len(filled) == 120
    assert {row["source"] for row in certified} == {"human", "auto", "none"}
    assert {row["source"] for row in filled} == {"human", "auto", "auto-uncertified"}
    assert all(row["label"] for row in filled)
    first = rows_of(job, uncertified="true", round=1)
    assert sum(row["source"] == "human" for row in first) == 50
    assert {row["source"] for row in first} == {"human", "auto-uncertified"}
    certificate = job.get("certificate")
    assert certificate["outcome"] == "CertifiedPartial"
    assert "of the rows that it covers differ" in certificate["lines"][0]
    missing = world.person("vic", "viewer").get(f"{job.path}/labels.csv", params={"round": 0})
    assert missing.status_code == 404


def test_uncovered_rows_may_be_exported_as_they_are(world: Any) -> None:
    job = world.job(finish={"uncovered": "autoUncertified"})
    job.finish()
    _, rows = next(iter(world.catalog.made.values()))
    assert len(rows) == 120
    sources = {row.source for row in rows}
    assert sources == {"human", "auto", "auto-uncertified"}
    assert job.known.outcome == "CertifiedPartial"


def test_items_page_by_page(world: Any) -> None:
    job = world.job()
    job.finish()
    client = world.person("vic", "viewer")

    def collect(**query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            params = {"limit": 7, "cursor": cursor, **query}
            page = client.get(f"{job.path}/items", params=params).json()
            assert len(page["items"]) <= 7
            found += page["items"]
            cursor = page["next_cursor"] or ""
            if not cursor:
                return found

    everything = collect()
    assert [item["item_id"] for item in everything] == sorted(
        item["item_id"] for item in everything
    )
    assert len(everything) == 120
    for source in ("human", "auto", "auto-uncertified", "none"):
        assert collect(source=source) == [i for i in everything if i["source"] == source]
    dogs = collect(label="dog")
    assert dogs == [item for item in everything if item["label"] == "dog"]
    assert collect(label="dog", source="human") == [i for i in dogs if i["source"] == "human"]


def test_why_an_item_has_its_label(world: Any) -> None:
    job = world.job()
    job.finish()
    items = job.get("items", params={"limit": 500})["items"]
    human = next(i for i in items if i["source"] == "human" and not i["random"])
    steps = job.get(f"items/{human['item_id']}/why")["steps"]
    kinds = [step["kind"] for step in steps]
    assert kinds[0] == "imported"
    assert {"chosen", "answer", "predicted"} <= set(kinds)
    assert kinds[-1] == "exported"
    machine = next(i for i in items if i["source"] == "auto")
    why = job.get(f"items/{machine['item_id']}/why")
    assert why["source"] == "auto"
    assert [step["kind"] for step in why["steps"]][-2:] == ["certified", "exported"]
    missing = world.person("vic", "viewer").get(f"{job.path}/items/{'0' * 16}/why")
    assert missing.status_code == 404
