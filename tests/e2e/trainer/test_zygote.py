"""Training that goes on in forked ranks: from the newest checkpoint, with the same bits."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch

from quintile.testing import agents

pytestmark = pytest.mark.torch
STEPS = 90


@pytest.mark.parametrize("workers", [1, 2])
def test_a_forked_restart_changes_nothing(workshop: Any, workers: int) -> None:
    undisturbed = workshop.run(workers=workers, iterations=STEPS, every=10)
    undisturbed.finish()
    run = workshop.run(workers=workers, iterations=STEPS, every=10)
    started = run.start(QUINTILE_ZYGOTE_AFTER_S="0.2")
    # The state of step 10 is on the disk before that of step 20 is begun.
    run.until_step(22)
    ranks = {rank: pid for agent in started for rank, pid in agent.ranks().items()}
    # Held, so that training does not end before the zygotes are there.
    for pid in ranks.values():
        os.kill(pid, signal.SIGSTOP)
    for agent in started:
        agents.until(lambda said=agent: "the zygote is ready" in said.said, what="a zygote")
    os.kill(ranks[workers - 1], signal.SIGKILL)
    for rank in range(workers - 1):
        os.kill(ranks[rank], signal.SIGCONT)
    run.finish(started)
    for rank, agent in enumerate(started):
        assert f"rank {rank} is forked from the zygote" in agent.said
    assert run.fake.known.generation == 2
    resumed = run.fake.known.plans[1].resume
    assert resumed is not None
    assert resumed.step % 10 == 0
    assert resumed.step >= 10
    expected, found = undisturbed.weights(), run.weights()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert run.curve() == undisturbed.curve()
