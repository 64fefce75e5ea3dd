"""A worker's network is cut and comes back: a namespace of its own, behind a pair of interfaces.

Needs root and network namespaces; skipped with a reason elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from quintile.testing import agents

pytestmark = pytest.mark.torch
HERE, THERE, BITS = "10.213.77.1", "10.213.77.2", "30"
FOUND_WITHIN_S = 20.0
"""The bar: so long after the limit a lost worker is found at the latest."""

SUMS = """
    import os, pathlib, time
    import torch
    import torch.distributed as dist
    from quintile_trainer import context

    run = context.current()
    dist.init_process_group("gloo")
    step, total = max(run.restored_step(), 0), 150
    ones = torch.ones(1)
    while step < total:
        time.sleep(0.02)
        dist.all_reduce(ones.fill_(1.0))
        step += 1
        run.progress(step, total)
        if step % 20 == 0 and run.rank == 0:
            folder = pathlib.Path("mine")
            folder.mkdir(exist_ok=True)
            (folder / "state.txt").write_text(str(step))
            run.checkpoint(step, folder)
"""


class Cable:
    """Two interfaces of one name, here and in a namespace of its own."""

    def __init__(self) -> None:
        self.name = f"qcut{os.getpid() % 100_000}"
        self.space = f"{self.name}-ns"

    def lay(self) -> None:
        """Make namespace, interfaces and addresses."""
        ip("netns", "add", self.space)
        ip("link", "add", self.name, "type", "veth", "peer", "name", f"{self.name}p")
        ip("link", "set", f"{self.name}p", "netns", self.space)
        ip("-n", self.space, "link", "set", f"{self.name}p", "name", self.name)
        ip("-n", self.space, "addr", "add", f"{THERE}/{BITS}", "dev", self.name)
        ip("-n", self.space, "link", "set", self.name, "up")
        ip("-n", self.space, "link", "set", "lo", "up")
        ip("addr", "add", f"{HERE}/{BITS}", "dev", self.name)
        self.join()

    def cut(self) -> None:
        """Nothing comes through any more."""
        ip("link", "set", self.name, "down")

    def join(self) -> None:
        """Everything comes through again."""
        ip("link", "set", self.name, "up")

    def remove(self) -> None:
        """Take everything away, whatever there is of it."""
        for words in (("link", "del", self.name), ("netns", "del", self.space)):
            subprocess.run(["ip", *words], capture_output=True, check=False)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the program ip to make a network namespace")
    made = Cable()
    try:
        try:
            made.lay()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield made
    finally:
        made.remove()


@pytest.fixture
def server_host(cable: Cable) -> str:
    """The API is on the address that both sides reach."""
    del cable
    return HERE


def test_a_cut_worker_is_found_and_the_run_goes_on_when_it_is_back(
    bench: Any, cable: Cable
) -> None:
    run = bench.script(SUMS, workers=2, variables={"GLOO_SOCKET_IFNAME": cable.name})
    attempt = run.attempt()
    attempt.hosts = {0: HERE, 1: THERE}
    attempt.prefixes = {1: ("ip", "netns", "exec", cable.space)}
    first, second = attempt.start()
    run.until_step(30)
    cable.cut()
    begun = time.monotonic()
    agents.until(lambda: run.facts.generation == 2, what="the cut is found")
    assert time.monotonic() - begun <= FOUND_WITHIN_S
    failure = run.facts.failure
    assert (failure.reason, failure.role, failure.rank) == ("AgentLost", "worker", 1)
    assert failure.first_error == "the agent worker-1 was silent for too long"
    cable.join()
    assert (first.wait(), second.wait()) == (0, 0)
    facts = run.facts
    assert (facts.state, facts.step) == ("succeeded", 150)
    assert facts.in_place_restarts == 1
    said = [line["line"] for line in run.logs() if line["generation"] == 1]
    assert any("rank 0 stands still: it is in all_reduce (" in line for line in said), said
