"""Real agents against the real coordinator: joining, ends, restarts, stops, an API that is away."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
from typing import Any

import pytest

from quintile.testing import agents

COUNTS = """
    import os, pathlib, sys, time
    from quintile_trainer import context

    run = context.current()
    run.listen()
    total, pause_s = int(sys.argv[1]), float(sys.argv[2])
    marks = pathlib.Path(os.environ["FOLDER"]) / f"marks-{run.rank}"
    step = max(run.restored_step(), 0)
    if step:
        kept = (run.restored_folder() / "state.txt").read_text()
        assert kept == f"state after {step}", kept
    print(f"begins at {step} of {total}", flush=True)
    while step < total:
        time.sleep(pause_s)
        step += 1
        with marks.open("a") as file:
            file.write(f"{step}\\n")
        run.log(step=step, loss=1 / step, rank=run.rank)
        run.progress(step, total)
        if step % 10 == 0 or run.should_stop():
            folder = pathlib.Path("mine")
            folder.mkdir(exist_ok=True)
            (folder / "state.txt").write_text(f"state after {step}")
            run.checkpoint(step, folder, loss=1 / step)
        if run.should_stop():
            sys.exit(75)
    print(f"done by rank {run.rank}", flush=True)
"""


def test_two_agents_meet_run_and_end(bench: Any) -> None:
    run = bench.script(COUNTS, args=("25", "0"), workers=2)
    first, second = run.start()
    assert (first.wait(), second.wait()) == (0, 0)
    facts = run.facts
    assert (facts.state, facts.generation, facts.step) == ("succeeded", 1, 25)
    for agent in (first, second):
        record = agent.exit_record
        assert (record["exit_code"], record["reason"]) == (0, "Completed")
        identity = json.loads((agent.state / "identity.json").read_text())
        assert identity["boot_id"] == record["boot_id"]
        assert identity["pid"] == agent.process.pid
    assert [values["loss"] for _, values in run.points(1)] == [1 / step for step in range(1, 26)]
    assert {values["rank"] for _, values in run.points(1, rank=1)} == {1.0}
    assert run.server.checkpoints(run.uid)[-1] == (1, 20)


def test_a_function_of_a_module_is_an_entry_too(bench: Any) -> None:
    run = bench.script(
        """
        import os, pathlib, sys
        def main():
            here = pathlib.Path.cwd()
            print("ran", __name__, sys.argv, os.environ["QUINTILE_HPARAMS"])
            (here / "left-behind").touch()
            sys.exit()
        """,
        entry="train:main",
        args=("--depth", "3"),
        hparams=[{"name": "lr", "value": "0.1"}],
    )
    [agent] = run.start()
    assert agent.wait() == 0
    said = [line["line"] for line in run.logs()]
    assert said[-1] == """ran train ['train:main', '--depth', '3'] {"lr": "0.1"}"""
    # What a script leaves behind stays out of the bundle that the next generation starts from.
    assert not (agent.state / "bundle" / "left-behind").exists()


def test_log_lines_arrive_once_each_in_order(bench: Any) -> None:
    run = bench.script(
        """
        import sys
        for number in range(3000):
            print(f"out {number}")
            if number % 10 == 0:
                print(f"err {number}", file=sys.stderr)
        """,
    )
    [agent] = run.start()
    assert agent.wait() == 0
    lines = run.logs()
    out = [line["line"] for line in lines if line["stream"] == "stdout"]
    err = [line["line"] for line in lines if line["stream"] == "stderr"]
    assert out == [f"out {number}" for number in range(3000)]
    assert err == [f"err {number}" for number in range(0, 3000, 10)]
    assert [line["seq"] for line in lines] == list(range(len(lines)))


def test_heartbeats_carry_progress(bench: Any) -> None:
    run = bench.script(COUNTS, args=("1000", "0.01"))
    [agent] = run.start()
    agents.until(lambda: run.facts.step >= 3, what="the API hears of step 3")
    assert (run.facts.state, run.facts.total_steps) == ("running", 1000)
    assert agent.process.poll() is None


def test_a_killed_rank_restarts_in_place_from_the_newest_checkpoint(bench: Any) -> None:
    run = bench.script(COUNTS, args=("150", "0.01"), workers=2)
    first, second = run.start()
    run.until_step(35)
    before = (first.process.pid, second.process.pid)
    os.kill(second.ranks()[1], signal.SIGKILL)
    run.until(what="generation 2 runs", generation=2, state="running")
    assert (first.process.pid, second.process.pid) == before
    assert (first.wait(), second.wait()) == (0, 0)
    facts = run.facts
    assert (facts.state, facts.generation, facts.in_place_restarts) == ("succeeded", 2, 1)
    assert facts.failure is not None
    assert (facts.failure.rank, facts.failure.reason) == (1, "Killed")
    assert facts.failure.first_error == "rank 1 was ended by SIGKILL"
    steps = [int(mark) for mark in run.marks("marks-0")]
    begun = run.points(2)[0][0]
    # It goes on from the newest state on the disk, be it committed before the loss or not.
    twice = {step for step in steps if steps.count(step) > 1}
    assert begun > 30
    assert begun % 10 == 1
    assert twice <= set(range(begun, begun + 10))
    assert sorted(set(steps)) == list(range(1, 151))
    with run.server.admin() as client:
        path = f"/api/v1/projects/default/trials/{run.name}/metrics"
        [series] = [entry for entry in client.get(path).json()["series"] if entry["name"] == "loss"]
    # What was done twice is shown once.
    assert series["steps"] == list(range(1, 151))


def test_all_descendants_die_with_a_generation(bench: Any) -> None:
    run = bench.script(
        """
        import os, pathlib, subprocess, sys, time
        from quintile_trainer import context

        run = context.current()
        folder = pathlib.Path(os.environ["FOLDER"])
        # A grandchild in a session of its own, as careless data loaders leave them behind.
        child = subprocess.Popen(
            [sys.executable, "-c",
             "import subprocess, time, sys;"
             "p = subprocess.Popen(['sleep', '600'], start_new_session=True);"
             "print(p.pid, flush=True); time.sleep(600)"],
            stdout=subprocess.PIPE, start_new_session=True,
        )
        pids = [child.pid, int(child.stdout.readline())]
        with (folder / "pids").open("a") as file:
            file.write("".join(f"{pid}\\n" for pid in pids))
        run.progress(1, 2)
        if "again" in {path.name for path in folder.iterdir()}:
            sys.exit(0)
        (folder / "again").touch()
        time.sleep(600)
        """,
    )
    [agent] = run.start()
    run.until_step(1)
    first = [int(mark) for mark in run.marks("pids")]
    assert all(alive(pid) for pid in first)
    os.kill(agent.ranks()[0], signal.SIGKILL)
    assert agent.wait() == 0
    everyone = [int(mark) for mark in run.marks("pids")]
    assert len(everyone) == 4
    assert not [pid for pid in everyone if alive(pid)]


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_ranks_die_with_their_agent(bench: Any) -> None:
    run = bench.script(COUNTS, args=("10000", "0.01"))
    [agent] = run.start()
    run.until_step(1)
    ranks = list(agent.ranks().values())
    agent.process.kill()
    agent.wait()
    agents.until(lambda: not any(alive(pid) for pid in ranks), what="the ranks' end", timeout_s=5)
    # No record of an end and a free lock: that is how the Executor knows a lost agent.
    assert agent.exit_record == {}


def test_a_lost_agent_is_found_by_its_silence_and_may_come_back(bench: Any) -> None:
    run = bench.script(COUNTS, args=("100000", "0.01"), workers=2)
    attempt = run.attempt()
    first, second = attempt.start()
    run.until_step(15)
    second.process.kill()
    run.until(what="the loss is found", generation=2, state="forming")
    assert run.facts.failure.reason == "AgentLost"
    attempt.start_one(1)
    run.until(what="generation 2 runs", generation=2, state="running")
    assert first.process.poll() is None


def test_a_preempted_agent_saves_and_leaves(bench: Any) -> None:
    run = bench.script(COUNTS, args=("100000", "0.01"))
    [agent] = run.start()
    run.until_step(13)
    agent.terminate()
    assert agent.wait() == 75
    assert agent.exit_record["reason"] == "Preempted"
    assert run.facts.state == "stopped"
    last = int(run.marks("marks-0")[-1])
    assert run.server.checkpoints(run.uid)[-1] == (1, last)
    again = run.start(2)[0]
    agents.until(lambda: len(run.marks("marks-0")) > last, what="it goes on")
    again.terminate()
    assert again.wait() == 75
    assert f"begins at {last} of 100000" in {line["line"] for line in run.logs()}
    assert run.marks("marks-0") == [str(step) for step in range(1, len(run.marks("marks-0")) + 1)]


def test_a_script_that_ignores_the_request_is_killed_after_its_grace(bench: Any) -> None:
    run = bench.script(
        """
        import signal, time
        from quintile_trainer import context
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        context.current().progress(1, 2)
        time.sleep(600)
        """,
        checkpoint={"graceSeconds": 1},
    )
    [agent] = run.start()
    run.until_step(1)
    agent.terminate()
    assert agent.wait() == 75
    assert "patience is over" in agent.said


def test_a_requested_stop_reaches_the_ranks(bench: Any) -> None:
    run = bench.script(COUNTS, args=("100000", "0.01"), workers=2)
    both = run.start()
    run.until_step(5)
    run.server.app.state.context.coordinator.request_stop(
        run.uid, namespace="default", name=run.name
    )
    assert [agent.wait() for agent in both] == [0, 0]
    assert {agent.exit_record["reason"] for agent in both} == {"Stopped"}
    assert run.facts.state == "stopped"


def test_an_older_attempt_is_fenced(bench: Any) -> None:
    run = bench.script(COUNTS, args=("100000", "0.01"))
    [old] = run.start(1)
    run.until_step(5)
    ranks = list(old.ranks().values())
    [new] = run.start(2)
    assert old.wait() == 76
    assert old.exit_record["reason"] == "Fenced"
    assert not any(alive(pid) for pid in ranks)
    run.until(what="attempt 2 runs", attempt=2, state="running")
    assert new.process.poll() is None


def test_training_goes_on_while_the_api_is_away(bench: Any) -> None:
    run = bench.script(COUNTS, args=("120", "0.02"), workers=2)
    both = run.start()
    run.until_step(5)
    run.server.stop()
    agents.until(lambda: len(run.marks("marks-0")) >= 80, what="75 steps on their own")
    run.server.start()
    assert [agent.wait() for agent in both] == [0, 0]
    facts = run.facts
    assert (facts.state, facts.generation, facts.in_place_restarts) == ("succeeded", 1, 0)
    for rank in (0, 1):
        # Every point once: ``points`` asserts that their numbers have no gap.
        assert [step for step, _ in run.points(1, rank)] == list(range(1, 121))
    assert run.server.checkpoints(run.uid)[-1] == (1, 120)
    said = [line["line"] for line in run.logs() if line["rank"] == 0]
    assert said[-1] == "done by rank 0"


def test_a_rank_that_dies_while_the_api_is_away_restarts_when_it_is_back(bench: Any) -> None:
    run = bench.script(COUNTS, args=("60", "0.05"), workers=2)
    first, second = run.start()
    run.until_step(12)
    run.server.stop()
    os.kill(second.ranks()[1], signal.SIGKILL)
    agents.until(lambda: "rank 1 ended: Killed" in second.said, what="the agent notices")
    run.server.start()
    assert [first.wait(), second.wait()] == [0, 0]
    assert (run.facts.state, run.facts.generation) == ("succeeded", 2)
    assert [step for step, _ in run.points(2)][-1] == 60


def test_an_agent_cut_off_for_too_long_saves_and_leaves(bench: Any) -> None:
    run = bench.script(COUNTS, args=("100000", "0.02"))
    [agent] = run.start(QUINTILE_AWAY_LIMIT_S="1.5")
    run.until_step(3)
    run.server.stop()
    assert agent.wait() == 77
    assert agent.exit_record["reason"] == "ApiUnreachable"
    last = int(run.marks("marks-0")[-1])
    assert (agent.state / "checkpoints" / f"g1-step-{last}" / "manifest.json").is_file()


def test_a_second_agent_in_one_folder_is_refused(bench: Any) -> None:
    run = bench.script(COUNTS, args=("100000", "0.01"))
    attempt = run.attempt()
    attempt.start()
    run.until_step(2)
    second = attempt.start_one(0)
    assert second.wait() == 70
    assert "another agent holds the lock" in second.said
    assert run.facts.generation == 1


def test_records_that_the_api_refuses_hold_nobody_up(bench: Any) -> None:
    run = bench.script(
        """
        import json, os, pathlib
        from quintile_trainer import context
        run = context.current()
        for step in range(5):
            run.log(step=step, loss=float("nan") if step == 1 else step)
        # Only a damaged disk writes such records.
        run._report._spool.append({"step": "no number", "time": 0.0, "values": {}})
        run.log(step=9, loss=9)
        """,
    )
    [agent] = run.start()
    assert agent.wait() == 0
    points = run.points(1)
    assert points[:2] == [(0, {"loss": 0.0}), (1, {"loss": None})]
    assert points[-1] == (9, {"loss": 9.0})
    assert len(points) == 7
    assert "a record is left out" in agent.said


@pytest.mark.parametrize("variable", ["QUINTILE_PROGRAM", "QUINTILE_INDEX"])
def test_a_wrong_environment_is_recorded(bench: Any, variable: str) -> None:
    run = bench.script(COUNTS, args=("1", "0"))
    [agent] = run.start(**{variable: "wrong"})
    assert agent.wait() == 70
    record = agent.exit_record
    assert record["reason"] == "AgentInternal"
    assert variable in record["message"]
