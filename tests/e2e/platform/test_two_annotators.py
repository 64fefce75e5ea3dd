"""Two ``quintile label simulate`` at once on one job: no task served twice, no label lost."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
from typing import Any

import anyio

from quintile.testing import digit_imports, instances

ITEMS = 300
JOB = "labels"
SPEC: dict[str, Any] = {
    "dataset": {"name": digit_imports.DATASET, "version": 1},
    "labels": [str(digit) for digit in range(10)],
    "target": {"error": "0.1", "random": "60"},
    "strategy": {"batch": "30", "lookahead": 1},
    "budget": {"maxHumanLabels": "90%", "maxChosen": "60", "maxRounds": 8},
    "finish": {"uncovered": "people"},
}


def simulate(instance: instances.Instance, truth: pathlib.Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "quintile.cli", "label", "simulate", JOB]
    options = ["--truth", str(truth), "--annotator", name, "--seconds", "0.01", "--output", "json"]
    env = {**os.environ, "QUINTILE_HOME": str(instance.home)}
    return subprocess.Popen(
        [*command, *options], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rows(instance: instances.Instance, query: str) -> list[tuple[Any, ...]]:
    path = instance.home / "data" / "labeling.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute(query).fetchall()


def test_two_people_share_a_job(tmp_path: pathlib.Path) -> None:
    truth = digit_imports.truth(ITEMS)
    table = tmp_path / "truth.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("name", "label"), *truth.items()])

    async def prepare(instance: instances.Instance) -> None:
        async with instance.client() as client:
            await digit_imports.import_digits(client, items=ITEMS, labelled=False)
            await client.labeling.create("default", {"name": JOB, "spec": SPEC})

    with instances.Instance(tmp_path / "home") as instance:
        anyio.run(prepare, instance)
        people = [simulate(instance, table, name) for name in ("ada", "ben")]
        told = [person.communicate(timeout=100) for person in people]
        assert [person.returncode for person in people] == [0, 0], told
        tallies = [json.loads(out) for out, _err in told]
        items = instance.request("GET", f"/projects/default/labeling-jobs/{JOB}/items?limit=500")
        stats = instance.request("GET", f"/projects/default/labeling-jobs/{JOB}/stats").json()
        twice = rows(
            instance, "SELECT slot_id, count(*) FROM leases GROUP BY slot_id HAVING count(*) > 1"
        )
    assert twice == []
    assert all(tally["answered"] > 0 for tally in tallies)
    assert all(set(tally["outcomes"]) == {"accepted"} for tally in tallies)
    labelled = [one for one in items.json()["items"] if one["source"] == "human"]
    assert sum(tally["answered"] for tally in tallies) == len(labelled) == stats["decisions"]
    assert all(one["annotations"] == 1 for one in labelled)
    assert all(one["label"] == truth[one["name"]] for one in labelled)
