"""Mode sync: any number of workers and servers is one serial program, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from quintile_trainer.ps import client, job, layout, optimizers, settings

SHAPES = {"conv": (7, 3, 3, 3), "bias": (7,), "dense": (129, 33), "scale": ()}
GROUPS = {"conv": 0, "dense": 0, "bias": 1, "scale": 1}
STEPS = 6
Tensors = dict[str, torch.Tensor]
RULES = {
    "sgd": optimizers.Rule("sgd", decays=(5e-4, 0.0), momentum=0.9, nesterov=True),
    "momentum": optimizers.Rule("sgd", decays=(5e-4, 0.0), momentum=0.9),
    "plain": optimizers.Rule("sgd", decays=(0.0, 0.0)),
    "adam": optimizers.Rule("adam", decays=(1e-3, 0.0)),
    "adamw": optimizers.Rule("adamw", decays=(1e-2, 0.0)),
}


def first() -> Tensors:
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def gradients(parameters: Mapping[str, torch.Tensor], rank: int, step: int) -> Tensors:
    """Gradients that depend on the parameters: a wrong or late pull changes everything after."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    return {
        name: 0.1 * value.detach() + torch.randn(value.shape, generator=generator)
        for name, value in parameters.items()
    }


def rate(step: int) -> float:
    return 0.05 / (step + 1)


def optimizer_of(rule: optimizers.Rule, parameters: Tensors) -> torch.optim.Optimizer:
    groups = [
        {
            "params": [parameters[name] for name in SHAPES if GROUPS[name] == number],
            "weight_decay": decay,
        }
        for number, decay in enumerate(rule.decays)
    ]
    if rule.kind == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=rule.momentum, nesterov=rule.nesterov)
    kind = torch.optim.Adam if rule.kind == "adam" else torch.optim.AdamW
    return kind(groups, lr=1.0)


def serial(rule: optimizers.Rule, workers: int, steps: int) -> tuple[Tensors, Any]:
    """One program: gradients of all ranks summed in rank order, torch's own optimizer."""
    torch.set_num_threads(1)
    parameters = {name: value.requires_grad_() for name, value in first().items()}
    optimizer = optimizer_of(rule, parameters)
    for step in range(steps):
        parts = [gradients(parameters, rank, step) for rank in range(workers)]
        for name, parameter in parameters.items():
            total = parts[0][name]
            for part in parts[1:]:
                total = total + part[name]
            parameter.grad = total / workers
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
    return {name: value.detach() for name, value in parameters.items()}, optimizer


def work_of(rule: optimizers.Rule, chunk_bytes: int = 1024) -> client.Work:
    return client.Work(rule, GROUPS, settings.Consistency("sync"), chunk_bytes)


def train(cluster: Any, rank: int, rule: optimizers.Rule) -> dict[str, Any]:
    # Other ranks begin with other weights: they must get those of rank 0.
    parameters = {name: value + rank for name, value in first().items()}
    server = client.join(
        cluster.team, cluster.secret, worker=rank, parameters=parameters, work=work_of(rule)
    )
    for step in range(STEPS):
        given = gradients(parameters, rank, step)
        if step % 2:
            server.exchange(step, given, rate=rate(step))
        else:
            server.push(step, given, rate=rate(step))
            server.pull()
    server.barrier()
    statistics = server.statistics()
    server.barrier()
    server.close()
    return {"parameters": {n: v.numpy() for n, v in parameters.items()}, "statistics": statistics}


@pytest.mark.parametrize(
    ("workers", "servers", "name"),
    [(1, 1, "sgd"), (2, 1, "sgd"), (3, 2, "sgd"), (5, 3, "sgd")]
    + [(3, 2, name) for name in RULES if name != "sgd"],
)
def test_sync_equals_a_serial_program(
    cluster: Callable[..., Any], workers: int, servers: int, name: str
) -> None:
    running = cluster(servers=servers, workers=workers)
    started = running.work(train, RULES[name])
    expected, _ = serial(RULES[name], workers, STEPS)
    for worker in started:
        found = worker.result()
        for key, value in expected.items():
            assert torch.equal(torch.from_numpy(found["parameters"][key]), value), key
        assert found["statistics"].clocks == (STEPS,) * workers
        assert found["statistics"].duplicates == 0
    for server in running.servers:
        server.result()


def half(cluster: Any, rank: int, rule: optimizers.Rule) -> dict[str, Any]:
    parameters = first()
    server = client.join(
        cluster.team, cluster.secret, worker=rank, parameters=parameters, work=work_of(rule)
    )
    found = None
    for step in range(STEPS):
        if step == STEPS // 2 and rank == 0:
            found = server.checkpoint_cut()
        server.exchange(step, gradients(parameters, rank, step), rate=rate(step))
    contents = found.contents() if found is not None else None
    server.barrier()
    server.close()
    if contents is None:
        return {}
    return {
        "parameters": {n: v.numpy() for n, v in contents.parameters.items()},
        "optimizer": {n: v.numpy() for n, v in contents.optimizer.items()},
        "clocks": contents.clocks,
    }


def resumed(cluster: Any, rank: int, rule: optimizers.Rule, state: dict[str, Any]) -> Any:
    parameters = {n: torch.from_numpy(v).clone() for n, v in state["parameters"].items()}
    optimizer = {n: torch.from_numpy(v) for n, v in state["optimizer"].items()}
    server = client.join(
        cluster.team,
        cluster.secret,
        worker=rank,
        parameters=parameters,
        work=work_of(rule, 4096),
        beginning=client.Beginning(clock=state["clocks"][0], optimizer=optimizer),
    )
    for step in range(server.clock, STEPS):
        server.exchange(step, gradients(parameters, rank, step), rate=rate(step))
    server.close()
    return {n: v.numpy() for n, v in parameters.items()}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_cut_holds_exactly_the_steps_before_it_and_any_number_of_servers_goes_on(
    cluster: Callable[..., Any], name: str
) -> None:
    rule, workers = RULES[name], 3
    state = cluster(servers=3, workers=workers).work(half, rule)[0].result()
    expected, optimizer = serial(rule, workers, STEPS // 2)
    assert state["clocks"] == (STEPS // 2,) * workers
    parameters = {n: torch.from_numpy(v) for n, v in state["parameters"].items()}
    for key, value in expected.items():
        assert torch.equal(parameters[key], value), key
    entries = {tuple(parameter.shape): entries for parameter, entries in optimizer.state.items()}
    for key, shape in SHAPES.items():
        for entry, value in entries[shape].items():
            assert torch.equal(torch.from_numpy(state["optimizer"][f"{key}/{entry}"]), value)
    final, _ = serial(rule, workers, STEPS)
    for worker in cluster(servers=2, workers=workers, generation=2).work(resumed, rule, state):
        found = worker.result()
        for key, value in final.items():
            assert torch.equal(torch.from_numpy(found[key]), value), key


def test_bfloat16_travels_and_the_master_stays_fp32(cluster: Callable[..., Any]) -> None:
    def train_halves(given: Any, rank: int) -> Any:
        parameters = {"w": torch.ones(5000, dtype=torch.bfloat16)}
        work = client.Work(optimizers.Rule("sgd"), chunk_bytes=2048)
        server = client.join(
            given.team, given.secret, worker=rank, parameters=parameters, work=work
        )
        for step in range(64):
            gradient = torch.full((5000,), 2.0**-8, dtype=torch.bfloat16)
            server.exchange(step, {"w": gradient}, rate=0.25)
        contents = server.checkpoint_cut().contents()
        server.close()
        return parameters["w"].float().numpy(), contents.optimizer["w/master"].numpy()

    seen, master = cluster(servers=2, workers=1).work(train_halves)[0].result()
    # One update is too small for bfloat16 next to 1; 64 of them are not.
    assert set(master.tolist()) == {1 - 64 * 2.0**-10}
    assert set(seen.tolist()) == {0.9375}


def test_a_model_smaller_than_the_servers_works(cluster: Callable[..., Any]) -> None:
    def train_scalar(given: Any, rank: int) -> float:
        parameters = {"w": torch.zeros(1)}
        work = client.Work(optimizers.Rule("sgd"))
        server = client.join(
            given.team, given.secret, worker=rank, parameters=parameters, work=work
        )
        for step in range(3):
            server.exchange(step, {"w": torch.ones(1)}, rate=1.0)
        contents = server.checkpoint_cut().contents() if rank == 0 else None
        server.close()
        return float(contents.parameters["w"]) if contents is not None else -3.0

    assert cluster(servers=3, workers=2).work(train_scalar)[0].result() == -3.0


def test_twenty_workers_meet_five_servers_in_balance(cluster: Callable[..., Any]) -> None:
    def sizes() -> list[layout.Parameter]:
        return [layout.Parameter(f"p{n}", 1 + 997 * n, "float32", n % 2) for n in range(20)]

    def train_many(given: Any, rank: int) -> float:
        parameters = {entry.name: torch.zeros(entry.size) for entry in sizes()}
        groups = {entry.name: entry.group for entry in sizes()}
        work = client.Work(optimizers.Rule("sgd", decays=(0.0, 0.0)), groups)
        server = client.join(
            given.team, given.secret, worker=rank, parameters=parameters, work=work
        )
        ones = {name: torch.full_like(value, rank + 1.0) for name, value in parameters.items()}
        for step in range(4):
            server.exchange(step, ones, rate=1.0)
        server.close()
        (value,) = torch.cat(list(parameters.values())).unique().tolist()
        return value

    assert layout.plan(sizes(), 5).imbalance <= layout.BALANCE
    running = cluster(servers=5, workers=20)
    for worker in running.work(train_many):
        assert worker.result() == -4 * 10.5
    for server in running.servers:
        server.result()


def test_reductions_sum_in_rank_order(cluster: Callable[..., Any]) -> None:
    def reduce(given: Any, rank: int) -> Any:
        parameters = {"w": torch.zeros(1)}
        positions = job.Positions(10)
        server = client.join(
            given.team,
            given.secret,
            worker=rank,
            parameters=parameters,
            work=client.Work(optimizers.Rule("sgd")),
            beginning=client.Beginning(positions=positions),
        )
        # Calls of one worker alone must not shift the numbering of common ones.
        for _ in range(rank):
            server.statistics()
        parts = [[1.0, 1e16], [10.0, 1.0], [100.0, 1.0]]
        total = server.total(torch.tensor(parts[rank], dtype=torch.float64))
        largest = server.highest(torch.tensor([rank, -rank]))
        large = server.total(torch.ones(300, 1000))
        server.close()
        assert large.shape == (300, 1000) and set(large.view(-1).tolist()) == {3.0}
        return total.tolist(), largest.tolist()

    for worker in cluster(servers=2, workers=3).work(reduce):
        total, largest = worker.result()
        assert total == [111.0, 1e16 + 1.0 + 1.0]
        assert largest == [2, 0]
