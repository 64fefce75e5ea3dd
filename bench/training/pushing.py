"""Parameter servers on shaped hosts: a push and a pull of all workers together, timed."""

from __future__ import annotations

import time

import torch

from quintile_trainer.calibration import ranks
from quintile_trainer.ps import client, optimizers, server, settings

SECRET = b"of a benchmark"
PORT = 29611
WARM_UP = 2


def exchanges(
    member: ranks.Member, servers: int, workers: int, size_bytes: int, count: int
) -> list[float]:
    """Exchange ``count`` times in sync; called by ``servers + workers`` ranks, servers first.

    Returns the seconds of each on a worker, nothing on a server. Hosts are those of ``shaped``.
    """
    team = settings.Team(servers, workers, generation=1, host=_address(0), port=PORT)
    if member.rank < servers:
        server.run(server.Place(team, member.rank, _address(member.rank)), SECRET)
        return []
    weight = torch.zeros(size_bytes // 4, requires_grad=True)
    link = client.join(
        team,
        SECRET,
        worker=member.rank - servers,
        parameters={"w": weight},
        work=client.Work(optimizers.Rule("sgd")),
    )
    link.bind_gradients()
    assert weight.grad is not None
    weight.grad.fill_(1.0)
    found = []
    for number in range(WARM_UP + count):
        link.barrier()
        begun = time.perf_counter()
        link.exchange(link.clock, rate=0.01)
        if number >= WARM_UP:
            found.append(time.perf_counter() - begun)
    link.barrier()
    link.close()
    return found


def _address(rank: int) -> str:
    return f"10.77.0.{rank + 1}"
