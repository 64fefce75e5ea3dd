"""Programs that end badly or will not end: always a condition that says all of it, never a hang."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import pytest

from quintile.core import experiment, reconcile, runplan
from quintile.testing import agents
from quintile_trainer import spool

MIB = 1024 * 1024
LINES = 30_000
SIZE = 1000
HINT = "Hint: the log of the rank has the whole traceback."

FORKS = """
    import os, pathlib, signal, sys, time
    marks = pathlib.Path(os.environ["FOLDER"]) / "children"
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with marks.open("a") as file:
                file.write(f"{os.getpid()}\\n")
            time.sleep(600)
    while not marks.exists() or len(marks.read_text().splitlines()) < 3:
        time.sleep(0.01)
    raise RuntimeError("left three children behind")
"""
FILLS = """
    import pathlib, resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    with pathlib.Path("results.bin").open("wb") as file:
        for _ in range(1000):
            file.write(bytes(4096))
"""
FLOODS_AND_FAILS = """
    import sys
    for number in range(20_000):
        print("x" * 500)
    sys.exit("too much was said")
"""
SCRIPTS: dict[str, tuple[str, str, int, str]] = {
    "ends at once": (
        "import sys; sys.exit(3)",
        "UserError",
        3,
        f"rank 0 exited with code 3 and said nothing on stderr. {HINT}",
    ),
    "leaves children behind": (
        FORKS,
        "UserError",
        1,
        f"RuntimeError: left three children behind. {HINT}",
    ),
    "fills the disk": (
        FILLS,
        "DiskFull",
        73,
        "OSError: [Errno 27] File too large; all 0 restarts of spec.failure.maxRestarts are used. "
        "Hint: make room on the disk of the worker, then resume.",
    ),
    "prints a lot and fails": (FLOODS_AND_FAILS, "UserError", 1, f"too much was said. {HINT}"),
}


def condition(run: Any) -> tuple[str, str]:
    """Reason and message of the condition Failed, as the reconciler makes it of the facts."""
    template = {"failure": {"maxRestarts": 0, "maxInPlaceRestarts": 2}}
    document = run.trial.document()
    document["spec"]["template"] |= template
    begun = reconcile.decide_trial(
        experiment.Trial.model_validate({**document, "status": None}),
        type(run.facts)(uid=run.uid),
        [],
        now_s=1.0,
    )
    seen = runplan.ObservedReplica(run.uid, 1, "a1-0", "worker", 0, "exited", exit_code=1)
    trial = experiment.Trial.model_validate({**document, "status": begun.status})
    made = reconcile.decide_trial(trial, run.facts, [seen], now_s=2.0)
    [failed] = [entry for entry in made.status.conditions if entry.type == "Failed"]
    return failed.reason, failed.message


@pytest.mark.parametrize(("code", "reason", "exit_code", "line"), SCRIPTS.values(), ids=SCRIPTS)
def test_a_script(bench: Any, code: str, reason: str, exit_code: int, line: str) -> None:
    run = bench.script(code, failure={"maxInPlaceRestarts": 0})
    [agent] = run.start()
    assert agent.wait() == 1
    found, message = condition(run)
    assert found == reason
    assert message.startswith(f"worker rank 0 exited with code {exit_code} ({reason}): ")
    assert message.endswith(line)
    for pid in run.marks("children"):
        # Who takes over the orphans of an agent that ended buries them a moment later.
        place = pathlib.Path(f"/proc/{pid}")
        agents.until(lambda place=place: not place.exists(), what=f"the end of {pid}")


@pytest.mark.torch
def test_a_loss_that_is_no_number(bench: Any) -> None:
    run = bench.functions({"model_fn": model_fn, "input_fn": input_fn}, hparams={"iterations": 30})
    [agent] = run.start()
    assert agent.wait() == 1
    assert condition(run) == (
        "Diverged",
        "worker rank 0 exited with code 1 (Diverged): "
        "the loss is nan at step 1; lower learning_rate, or set clip_norm",
    )


def model_fn(_hparams: Mapping[str, Any]) -> Any:
    from torch import nn

    return nn.Linear(4, 2)


def input_fn(_split: str, _hparams: Mapping[str, Any]) -> Any:
    import torch

    return torch.full((64, 4), float("nan")), torch.zeros(64).long()


model_fn.__module__ = input_fn.__module__ = "__main__"


def test_a_script_that_prints_without_end_stays_within_its_quota_and_can_be_stopped(
    bench: Any,
) -> None:
    run = bench.script(
        """
        import os, pathlib, sys
        print("begun", flush=True)
        marks = pathlib.Path(os.environ["FOLDER"]) / "printed"
        number = 0
        while True:
            print(number, "x" * 1000)
            number += 1
            if number % 5000 == 0:
                with marks.open("a") as file:
                    file.write(f"{number}\\n")
        """,
        checkpoint={"graceSeconds": 2},
    )
    quota = 4 * MIB
    [agent] = run.start(QUINTILE_LOG_QUOTA_BYTES=str(quota))
    agents.until(lambda: any(line["line"] == "begun" for line in run.logs()), what="it prints")
    run.server.stop()
    folder = agent.state / "g1" / "spool" / "rank-0" / "logs"
    largest = 0

    def printed(lines: int) -> bool:
        nonlocal largest
        largest = max(largest, spool.size_bytes(folder))
        return len(run.marks("printed")) * 5000 >= lines

    agents.until(lambda: printed(100_000), what="100 MB are printed")
    # The segment that is being written, and the one that is being shipped.
    assert largest <= quota + 3 * MIB
    run.server.start()
    run.server.app.state.context.coordinator.request_stop(
        run.uid, namespace="default", name=run.name
    )
    assert agent.wait() == 0
    assert run.facts.state == "stopped"
    lines = [line["line"] for line in run.logs() if "lines dropped" in line["line"]]
    assert lines, "a line says how many are missing"
    assert lines[-1].startswith("[quintile] ")


TWICE = """
    import os, pathlib, sys
    marks = pathlib.Path(os.environ["FOLDER"]) / "starts"
    with marks.open("a") as file:
        file.write("x\\n")
    if len(marks.read_text().splitlines()) < 4:
        print("lost the lease of node-7, try again", file=sys.stderr)
        sys.exit(42)
"""


def test_a_rule_restarts_what_would_have_failed_and_does_not_count_it(bench: Any) -> None:
    rule = {"action": "RestartUncounted", "exitCodes": [42], "logPattern": "lease of node-*"}
    run = bench.script(TWICE, failure={"maxInPlaceRestarts": 0, "rules": [rule]})
    [agent] = run.start()
    assert agent.wait() == 0
    facts = run.facts
    assert (facts.state, facts.generation, facts.in_place_restarts) == ("succeeded", 4, 0)
    assert len(run.marks("starts")) == 4


def test_a_rule_ends_what_would_have_been_tried_again(bench: Any) -> None:
    run = bench.script(
        """
        import os
        from quintile_trainer import context
        context.current().progress(1, 2)
        os.kill(os.getpid(), 9)
        """,
        failure={"rules": [{"action": "Fail", "exitCodes": [137]}]},
    )
    [agent] = run.start()
    assert agent.wait() == 1
    assert (run.facts.state, run.facts.generation) == ("failed", 1)
    reason, message = condition(run)
    assert reason == "Killed"
    assert message.startswith("worker rank 0 exited with code 137 (Killed): rank 0 was ended by")
