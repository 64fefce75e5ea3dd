"""Ranks that stand still: found, asked for their stacks, named, and started again in place."""

from __future__ import annotations

import os
import signal
import textwrap
from typing import Any

import pytest

from quintile.testing import agents

STEPS = """
    import os, pathlib, sys, time
    from quintile_trainer import context

    run = context.current()
    total, wedged = int(sys.argv[1]), sys.argv[2]
    mark = pathlib.Path(os.environ["FOLDER"]) / f"wedged-{run.rank}"

    def wedge():
        mark.touch()
        while True:
            time.sleep(60)

    step = max(run.restored_step(), 0)
    enough = mark.with_name("enough")
    while step < total and not enough.exists():
        time.sleep(0.02)
        step += 1
        if wedged == str(run.rank) and step == 5 and not mark.exists():
            wedge()
        run.progress(step, total)
"""
LIMIT = {"summaryEverySteps": 1, "progressTimeoutSeconds": 1}
SLOW_LIMIT = {"summaryEverySteps": 1, "progressTimeoutSeconds": 4}

HANGS = {"stopped": "os.kill(os.getpid(), signal.SIGSTOP)", "asleep": "time.sleep(3600)"}


def said(run: Any) -> str:
    return "\n".join(line["line"] for line in run.logs())


def test_a_stopped_rank_is_named_and_the_run_goes_on(bench: Any) -> None:
    run = bench.script(STEPS, args=("100000", "none"), workers=2, telemetry=LIMIT)
    first, second = run.start()
    agents.until(lambda: [rank.step > 5 for rank in run.facts.ranks] == [True] * 2, what="steps")
    before = (first.process.pid, second.process.pid)
    os.kill(second.ranks()[1], signal.SIGSTOP)
    run.until(what="generation 2 runs", generation=2, state="running")
    facts = run.facts
    assert (facts.failure.reason, facts.failure.rank) == ("Stalled", 1)
    assert facts.failure.first_error.startswith("no step was finished for ")
    assert "rank 1 (worker-1) is late, after step " in facts.failure.first_error
    assert "its process is stopped (state T)" in facts.failure.first_error
    assert (first.process.pid, second.process.pid) == before
    (run.folder / "enough").touch()
    assert (first.wait(), second.wait()) == (0, 0)
    assert (run.facts.state, run.facts.generation) == ("succeeded", 2)
    text = said(run)
    assert "rank 1 stands still: its process is stopped (state T), so it gives no stack" in text
    assert "(most recent call first):" in text
    assert "[quintile] rank 0 stands still: it is in <module> (train.py:" in text


def test_the_late_rank_is_named_with_the_place_where_it_hangs(bench: Any) -> None:
    run = bench.script(STEPS, args=("60", "0"), workers=2, telemetry=LIMIT)
    first, second = run.start()
    assert (first.wait(), second.wait()) == (0, 0)
    facts = run.facts
    assert (facts.state, facts.generation, facts.in_place_restarts) == ("succeeded", 2, 1)
    assert (facts.failure.reason, facts.failure.rank) == ("Stalled", 0)
    assert "rank 0 (worker-0) is late, after step 4: it is in wedge (train.py:" in (
        facts.failure.first_error
    )
    assert ", line 12 in wedge" in said(run)


@pytest.mark.parametrize("how", HANGS)
def test_a_rank_that_hangs_in_its_first_imports_is_named_and_the_run_goes_on(
    bench: Any, how: str
) -> None:
    # Python imports it before anything of ours, as it does what an image brings.
    (bench.folder / "sitecustomize.py").write_text(
        textwrap.dedent(
            f"""
            import os, pathlib, signal, time

            mark = pathlib.Path(__file__).parent / "hung"
            if os.environ.get("RANK") == "1" and not mark.exists():
                mark.touch()
                {HANGS[how]}
            """
        )
    )
    limits = {"summaryEverySteps": 1, "startTimeoutSeconds": 2}
    variables = {"PYTHONPATH": str(bench.folder)}
    run = bench.script(STEPS, args=("5", "none"), workers=2, telemetry=limits, variables=variables)
    assert [agent.wait() for agent in run.start()] == [0, 0]
    facts = run.facts
    assert (facts.state, facts.generation, facts.in_place_restarts) == ("succeeded", 2, 1)
    assert (facts.failure.reason, facts.failure.rank) == ("Stalled", 1)
    assert "rank 1 (worker-1) is late, before its first step: " in facts.failure.first_error
    why = {"stopped": "its process is stopped (state T)", "asleep": "it gave no stack"}
    assert why[how] in facts.failure.first_error
    assert "[quintile] rank 1 stands still: " in said(run)


def test_a_script_whose_rank_never_meets_the_others_is_found_where_a_start_has_a_limit(
    bench: Any,
) -> None:
    run = bench.script(
        """
        import os, pathlib, time
        from quintile_trainer import context

        run = context.current()
        folder = pathlib.Path(os.environ["FOLDER"])

        def elsewhere():
            (folder / "strayed").touch()
            time.sleep(3600)

        def meet():
            (folder / f"here-{run.rank}").touch()
            while not all((folder / f"here-{rank}").exists() for rank in (0, 1)):
                time.sleep(0.02)

        if run.rank == 1 and not (folder / "strayed").exists():
            elsewhere()
        meet()
        run.progress(1, 1)
        """,
        workers=2,
        telemetry={"startTimeoutSeconds": 2},
    )
    assert [agent.wait() for agent in run.start()] == [0, 0]
    facts = run.facts
    assert (facts.state, facts.generation, facts.failure.reason) == ("succeeded", 2, "Stalled")
    assert "the start got no further for " in facts.failure.first_error
    assert "rank 1 stands still: it is in elsewhere (train.py:" in said(run)
    assert "rank 0 stands still: it is in " in said(run)


def test_who_never_tells_steps_is_never_killed_for_it(bench: Any) -> None:
    run = bench.script(
        """
        import os, pathlib, time
        folder = pathlib.Path(os.environ["FOLDER"])
        (folder / "begun").touch()
        while not (folder / "go-on").exists():
            time.sleep(0.05)
        """,
        telemetry=LIMIT,
    )
    [agent] = run.start()
    agents.until((run.folder / "begun").exists, what="the script begins")
    beats = {rank.rank: rank for rank in run.facts.ranks}
    assert beats[0].step == -1
    agents.until(lambda: still_s(run) > 2.5, what="the limit is long over")
    (run.folder / "go-on").touch()
    assert agent.wait() == 0
    assert (run.facts.state, run.facts.generation, run.facts.failure) == ("succeeded", 1, None)


def test_an_api_that_was_away_mistakes_nothing_for_a_stall(bench: Any) -> None:
    run = bench.script(STEPS, args=("400", "none"), workers=2, telemetry=SLOW_LIMIT)
    started = run.start()
    run.until_step(5)
    bench.server.stop()
    run.until_step(300)
    bench.server.start()
    assert [agent.wait() for agent in started] == [0, 0]
    assert (run.facts.state, run.facts.generation) == ("succeeded", 1)


def still_s(run: Any) -> float:
    """For how long rank 0 has told nothing, as the API has stored it."""
    from quintile_api.runs import tables

    with run.server.app.state.context.database.read() as session:
        row = session.get(tables.RankRow, (run.uid, 1, 1, 0))
        return float(row.still_s) if row is not None else 0.0
