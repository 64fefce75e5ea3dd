"""Commits of hvd.elastic: when they become checkpoints, what those hold, and going on from one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from quintile.testing import clock, ranks
from quintile_trainer import commits, context, failures, folders, layout, progress, worker_env
from quintile_trainer.hvd import elastic

pytestmark = pytest.mark.torch
ELASTIC = {"run": {"workers": {"replicas": 1, "max": 4}}}


class Bench:
    """A rank in a folder, that can be started again from its newest checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = clock.FakeClock()
        self.asked = False
        self.env: worker_env.WorkerEnv

    def start(self, state: Any, *, generation: int = 1, **given: Any) -> commits.Commits:
        found = folders.newest(self.folder / "checkpoints")
        variables = ranks.variables(
            self.folder,
            generation=generation,
            resume_dir=str(found.folder) if found else "",
            **given,
        )
        context.end()
        self.env = worker_env.load(variables)
        rank = context.begin(self.env)
        kept = commits.Commits(
            self.env, rank, state, lambda wish: wish or self.asked, self.clock.now
        )
        kept.restore()
        return kept

    def steps(self) -> list[int]:
        entries = layout.local_checkpoints(self.folder / "checkpoints")
        return [entry.step for entry in entries]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
    context.end()


def plain(**values: Any) -> elastic.ObjectState:
    return elastic.ObjectState(lambda value: value, lambda: 0, **values)


def trained(rate: float = 0.1) -> tuple[Any, Any]:
    """A model and an optimizer that have done a step, so that both have a state of their own."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_checkpoints_are_ten_seconds_apart_at_least_and_the_first_is_at_once(bench: Bench) -> None:
    state = plain(batch=0)
    kept = bench.start(state)
    for state.batch in range(1, 5):
        state.commit()
        kept.close()
        bench.clock.sleep(4.0)
    assert bench.steps() == [1, 4]


def test_a_start_finds_models_optimizers_and_values(bench: Bench) -> None:
    model, optimizer = trained(rate=0.3)
    state = elastic.TorchState(model, optimizer, epoch=3, note=lambda: "any object")
    kept = bench.start(state)
    state.commit()
    kept.close()
    model2, optimizer2 = trained(rate=0.1)
    again = elastic.TorchState(model2, optimizer2, epoch=0, note=None, more="is new")
    bench.start(again, generation=2)
    assert torch.equal(model2.weight, model.weight)
    assert optimizer2.param_groups[0]["lr"] == 0.3
    moments = [made.state[given.weight]["exp_avg"] for made, given in zip(
        (optimizer2, optimizer), (model2, model), strict=True)]  # fmt: skip
    assert torch.equal(*moments)
    assert (again.epoch, again.note(), again.more) == (3, "any object", "is new")
    again.epoch = 9
    again.restore()
    assert again.epoch == 3


def test_what_a_script_registered_is_called_once_the_state_is_there(bench: Bench) -> None:
    state = plain(batch=7)
    kept = bench.start(state)
    state.commit()
    kept.close()
    again = plain(batch=0)
    seen: list[int] = []
    again.register_reset_callbacks([lambda: seen.append(again.batch)])
    bench.start(again, generation=2)
    assert seen == [7]


def test_at_a_first_start_nothing_is_called(bench: Bench) -> None:
    state = plain(batch=0)
    state.register_reset_callbacks([lambda: pytest.fail("there was no reset")])
    bench.start(state)


def test_a_checkpoint_of_the_script_itself_is_left_to_it(bench: Bench, tmp_path: Path) -> None:
    bench.start(plain(batch=0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_text("w")
    context.current().checkpoint(5, tmp_path / "mine")
    again = plain(batch=1)
    bench.start(again, generation=2)
    assert again.batch == 1


@pytest.mark.parametrize("asks", ["commit", "check_host_updates"])
def test_asked_to_leave_it_saves_what_it_has_whenever_it_saved_last(
    bench: Bench, asks: str
) -> None:
    state = plain(batch=1)
    bench.start(state)
    state.commit()
    state.batch, bench.asked = 2, True
    with pytest.raises(failures.Yielded):
        getattr(state, asks)()
    again = plain(batch=0)
    bench.start(again, generation=2)
    assert again.batch == 2


def test_steps_that_the_script_tells_are_those_of_its_checkpoints(bench: Bench) -> None:
    def logs() -> None:
        context.current().log(step=400, loss=0.1)

    def tells() -> None:
        context.current().progress(300)

    def nothing() -> None:
        pass

    found = []
    told: tuple[Callable[[], None], ...] = (logs, nothing, tells, logs)
    for generation, tell in enumerate(told, start=1):
        state = plain(batch=0)
        kept = bench.start(state, generation=generation)
        tell()
        state.commit()
        kept.close()
        found.append(bench.steps()[-1])
    # Always one after what it went on from.
    assert found == [400, 401, 402, 403]


def test_commits_are_steps_of_an_elastic_run_that_tells_none(bench: Bench) -> None:
    def told() -> int:
        return progress.read(bench.env.folder.progress(0))[0]

    state = plain(batch=0)
    bench.start(state, program=ELASTIC)
    state.commit()
    assert told() == 1
    context.current().progress(70)
    state.commit()
    assert told() == 70
    fixed = plain(batch=0)
    bench.start(fixed, generation=2)
    fixed.commit()
    assert told() == -1


def test_only_rank_0_writes(bench: Bench) -> None:
    state = plain(batch=0)
    kept = bench.start(state, rank=1, world_size=2)
    state.commit()
    kept.close()
    assert bench.steps() == []


def test_a_state_that_does_not_say_what_it_holds_is_left_alone_and_that_is_said(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    class Mine(elastic.State):
        saved = 0

        def save(self) -> None:
            self.saved += 1

        def restore(self) -> None:
            """Nothing is remembered."""

        def sync(self) -> None:
            """All ranks are equal."""

    state = Mine(lambda value: value, lambda: 0)
    bench.start(state)
    state.commit()
    assert (state.saved, bench.steps()) == (1, [])
    assert "commits of a Mine are no checkpoints" in capsys.readouterr().err


def test_the_sampler_shares_what_is_left_of_its_epoch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sampler(rank: int, size: int) -> elastic.ElasticSampler:
        monkeypatch.setattr(elastic.world, "rank", lambda: rank)
        monkeypatch.setattr(elastic.world, "size", lambda: size)
        return elastic.ElasticSampler(range(12), shuffle=True, seed=5)

    shuffled = list(range(12))
    random.Random(5).shuffle(shuffled)
    first = sampler(0, 2)
    kept = bench.start(state := elastic.TorchState(sampler=first))
    first.record_batch(0, 2)
    state.commit()
    kept.close()
    learnt = shuffled[:4]
    left: list[int] = []
    for rank in range(4):
        again = sampler(rank, 4)
        bench.start(elastic.TorchState(sampler=again), generation=2 + rank)
        left += list(again)
    assert sorted(left + learnt) == list(range(12))
