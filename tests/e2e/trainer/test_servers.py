"""Mode ps: workers and parameter servers as processes; all orderings learn, losses are survived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

pytestmark = pytest.mark.torch


def servers(replicas: int, **of: Any) -> dict[str, Any]:
    return {"ps": {"replicas": replicas, **of}}


ORDERINGS: list[dict[str, Any]] = [
    {"consistency": "sync"},
    {"consistency": "ssp", "staleness": 2},
    {"consistency": "async"},
]


@pytest.mark.parametrize("ordering", ORDERINGS, ids=lambda one: one["consistency"])
def test_digits_are_learnt_in_every_ordering(workshop: Any, ordering: Mapping[str, Any]) -> None:
    run = workshop.run(
        workers=2, iterations=400, batch_size=16, every=150, run_spec=servers(2, **ordering)
    )
    run.finish()
    report = run.report()
    assert report["evaluation"]["metrics"]["accuracy"] >= 0.95
    assert (report["steps"], report["world_size"], report["evaluation"]["count"]) == (400, 2, 360)
    told = report["parameter_servers"]
    assert (told["servers"], told["consistency"]) == (2, ordering["consistency"])
    assert told["imbalance"] <= 1.02
    assert told["duplicates"] == 0
    steps = [commit.manifest.step for commit in run.fake.known.commits]
    assert steps[-1] == 400
    assert len(steps) >= 2
    assert {end.exit_code for end in run.fake.known.exits} == {0}
    if ordering["consistency"] == "sync":
        assert told["staleness"] == {}
    else:
        bound = 2 * ordering.get("staleness", 400) + 1
        assert max(map(int, told["staleness"])) <= bound
        assert run.curve("staleness_mean")
