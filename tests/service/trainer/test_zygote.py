"""Ranks that a zygote forks: the same as fresh ones to script and agent; and what if it cannot."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from typing import Any

import pytest

from quintile.testing import agents

pytestmark = pytest.mark.torch
ONCE = {"QUINTILE_ZYGOTE_AFTER_S": "0.2"}
TELLS = """
    import ctypes, json, os, pathlib, random, signal, sys, time
    import numpy, torch
    from quintile_trainer import context

    run = context.current()
    death = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(death), 0, 0, 0)
    run_file = json.loads(pathlib.Path(os.environ["QUINTILE_RUN"]).read_text())
    generation = run_file["plan"]["generation"]
    seen = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "dies of": death.value,
        "here": str(pathlib.Path.cwd()),
        "arguments": sys.argv,
        "name": __name__,
        "variables": dict(os.environ),
        "threads": torch.get_num_threads(),
        "chance": [random.random(), numpy.random.rand(), torch.initial_seed()],
        "input": os.readlink("/proc/self/fd/0"),
        "files": sorted(os.readlink(file) for file in pathlib.Path("/proc/self/fd").iterdir()
                        if file.exists()),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "priorities": sorted(signal.getsignal(n) is signal.SIG_DFL for n in (15, 17)),
    }
    print(f"generation {generation} speaks", flush=True)
    print(f"generation {generation} complains", file=sys.stderr, flush=True)
    path = pathlib.Path(os.environ["FOLDER"]) / f"seen-{generation}"
    path.with_suffix(".new").write_text(json.dumps(seen))
    path.with_suffix(".new").rename(path)
    run.progress(1, 0)
    last = int(sys.argv[1])
    if generation < last:
        time.sleep(600)
    sys.exit(int(sys.argv[2]))
"""
OF_A_GENERATION = {"QUINTILE_RUN", "QUINTILE_TENSORBOARD", "MASTER_PORT"}


def seen(run: Any, generation: int) -> dict[str, Any]:
    path = run.folder / f"seen-{generation}"
    agents.until(path.exists, what=f"generation {generation} runs")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def has_zygote(agent: agents.Agent) -> None:
    agents.until(lambda: "the zygote is ready" in agent.said, what="a zygote")


def zygote_of(agent: agents.Agent) -> int:
    names = {
        pathlib.Path(f"/proc/{pid}/comm").read_text().strip(): pid
        for pid in agents.children(agent.process.pid)
    }
    return names["zygote"]


def test_a_forked_rank_is_a_rank_as_any_other(bench: Any) -> None:
    run = bench.script(TELLS, args=("3", "5"))
    # Said here: other tests of this process leave their own numbers, more than MKL would take.
    [agent] = run.start(**ONCE, MINE="yes", OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    fresh = seen(run, 1)
    has_zygote(agent)
    os.kill(fresh["pid"], signal.SIGKILL)
    forked = seen(run, 2)
    assert "rank 0 is forked from the zygote" in agent.said
    assert forked["parent"] == fresh["parent"] == agent.process.pid
    for found in (fresh, forked):
        assert found["group"] == found["pid"]
        assert found["dies of"] == signal.SIGKILL
        script, *arguments = found["arguments"]
        assert (found["name"], arguments) == ("__main__", ["3", "5"])
        assert script == f"{found['here']}/train.py"
        assert found["variables"]["MINE"] == "yes"
        assert "QUINTILE_TOKEN" not in found["variables"]
    same = fresh["variables"].keys() | forked["variables"].keys()
    changed = {n for n in same if fresh["variables"].get(n) != forked["variables"].get(n)}
    assert changed <= OF_A_GENERATION
    for name in ("threads", "input", "nice", "priorities"):
        assert forked[name] == fresh[name]
    assert not set(forked["chance"]) & set(fresh["chance"])
    assert not [name for name in forked["files"] if name.startswith("socket:")]
    # A crash and an exit code are told as those of any other rank.
    os.kill(forked["pid"], signal.SIGABRT)
    agents.until(lambda: run.facts.generation == 3, what="generation 3")
    assert run.facts.failure.first_error.startswith("rank 0 was ended by SIGABRT")
    third = seen(run, 3)
    assert not set(third["chance"]) & set(forked["chance"])
    assert agent.wait() == 1
    assert (run.facts.state, run.facts.failure.exit_code) == ("failed", 5)
    lines = [(line["stream"], line["line"]) for line in run.logs()]
    for generation in (1, 2, 3):
        assert ("stdout", f"generation {generation} speaks") in lines
        assert ("stderr", f"generation {generation} complains") in lines
    # Neither the zygote nor a rank outlives the agent.
    assert not pathlib.Path(f"/proc/{third['pid']}").exists()


def test_without_its_zygote_an_agent_starts_fresh_ranks(bench: Any) -> None:
    run = bench.script(TELLS, args=("3", "0"))
    [agent] = run.start(**ONCE)
    first = seen(run, 1)
    has_zygote(agent)
    zygote = zygote_of(agent)
    os.kill(zygote, signal.SIGSTOP)
    os.kill(zygote, signal.SIGKILL)
    os.kill(first["pid"], signal.SIGKILL)
    second = seen(run, 2)
    line = "rank 0 starts in a fresh interpreter: the zygote "
    agents.until(lambda: line in agent.said, what="why there is no fork")
    # Another one comes when training goes on.
    agents.until(lambda: agent.said.count("the zygote is ready") == 2, what="another zygote")
    os.kill(second["pid"], signal.SIGKILL)
    assert agent.wait() == 0
    assert agent.said.count("is forked from the zygote") == 1
    assert run.facts.state == "succeeded"


def test_a_process_with_threads_never_forks(bench: Any) -> None:
    # As a library would that keeps a thread from its import on.
    (bench.folder / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "if 'quintile_trainer.zygote' in sys.orig_argv:\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    run = bench.script(TELLS, args=("2", "0"))
    [agent] = run.start(**ONCE, PYTHONPATH=str(bench.folder))
    first = seen(run, 1)
    words = "no zygote: the zygote cannot fork: it has 2 threads"
    agents.until(lambda: words in agent.said, what=words)
    os.kill(first["pid"], signal.SIGKILL)
    assert agent.wait() == 0
    assert "is forked" not in agent.said
    assert seen(run, 2)["parent"] == agent.process.pid


def test_a_program_without_torch_needs_no_zygote(bench: Any) -> None:
    run = bench.script(
        """
        import pathlib, os, time
        from quintile_trainer import context
        context.current().progress(1, 0)
        while not (pathlib.Path(os.environ["FOLDER"]) / "enough").exists():
            time.sleep(0.01)
        """
    )
    [agent] = run.start(**ONCE)
    agents.until(lambda: "no zygote: the program of the ranks does not" in agent.said, what="it")
    (bench.folder / "enough").touch()
    assert agent.wait() == 0
