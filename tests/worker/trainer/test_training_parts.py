"""Networks, optimizer state, checkpoints and the loop on small tensors: no processes."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quintile.testing import ranks
from quintile_trainer import (
    checkpoints,
    evaluate,
    failures,
    folders,
    hyper,
    loop,
    optimizing,
    reporter,
    seeding,
    spool,
    stopping,
    task,
    worker_env,
)
from quintile_trainer.data import feeds
from quintile_trainer.models import resnet
from quintile_trainer.modes import averaging, single

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are not worth a second thread, and a busy machine makes it slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestResnet:
    """Small residual networks."""

    @pytest.mark.parametrize("size", [8, 28, 33])
    def test_logits_for_every_size(self, size: int) -> None:
        model = resnet.build("resnet8", channels=1, classes=7, size=size)
        with torch.inference_mode():
            logits = model(torch.zeros(2, 1, size, size))
        assert logits.shape == (2, 7)
        assert torch.isfinite(logits).all()

    @pytest.mark.parametrize("name", resnet.SHAPES)
    @pytest.mark.parametrize("size", [8, 224])
    def test_shapes_of_every_network(self, name: str, size: int) -> None:
        with torch.device("meta"):
            model = resnet.build(name, channels=3, classes=7, size=size)
            assert model(torch.zeros(2, 3, size, size)).shape == (2, 7)

    def test_large_images_are_shrunk_at_once(self) -> None:
        model = resnet.build("resnet8", channels=3, classes=5, size=128)
        with torch.inference_mode():
            assert model.stem(torch.zeros(1, 3, 128, 160)).shape == (1, 32, 32, 40)
            assert model(torch.zeros(1, 3, 128, 160)).shape == (1, 5)

    def test_an_image_is_judged_by_itself(self) -> None:
        torch.manual_seed(0)
        model = resnet.build("resnet8", channels=1, classes=3, size=8)
        images = torch.randn(5, 1, 8, 8)
        with torch.inference_mode():
            assert torch.allclose(model(images)[2:3], model(images[2:3]), atol=1e-5)
        assert not list(model.buffers())

    def test_equal_seeds_give_equal_weights(self) -> None:
        def weights() -> list[torch.Tensor]:
            torch.manual_seed(3)
            return list(resnet.build("resnet8", channels=1, classes=3, size=8).parameters())

        assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))


class TestOptimizing:
    """Rates and state by parameter name."""

    def test_the_rate_rises_and_falls(self) -> None:
        given = hyper.HyperParameters(warmup=0.1)
        rates = [optimizing.rate_at(step, 100, given, peak=1.0) for step in range(100)]
        assert rates[0] == pytest.approx(0.1)
        assert max(rates) == rates[9] == 1.0
        assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
        assert 0 < rates[-1] < 0.01
        constant = hyper.HyperParameters(schedule="constant", warmup=0.0)
        assert optimizing.rate_at(99, 100, constant, peak=0.5) == 0.5

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    def test_state_travels_by_name(self, name: Any) -> None:
        given = hyper.HyperParameters(optimizer=name)
        whole, _ = trained(given, 6)
        model, optimizer = trained(given, 3)
        held = optimizer.state()
        assert {key.rpartition("/")[0] for key in held} == dict(model.named_parameters()).keys()
        resumed, _ = trained(given, 3, start=(loop.copied(model), held))
        for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_state_of_another_model_is_refused(self) -> None:
        optimizer = optimizing.Optimizer(nn.Linear(2, 2), hyper.HyperParameters())
        with pytest.raises(failures.Broken, match="holds state of 'other', the model has none"):
            optimizer.restore({"other/momentum_buffer": torch.zeros(2)})

    @pytest.mark.parametrize(
        ("model", "words"),
        [
            (nn.ReLU(), "without trainable parameters"),
            (nn.Linear(2, 2).requires_grad_(False), "without trainable parameters"),
            (nn.LazyLinear(2), "parameter 'weight' has no size yet; call the model once"),
        ],
        ids=["none", "frozen", "lazy"],
    )
    @pytest.mark.filterwarnings("ignore:Lazy modules")
    def test_nothing_to_train_is_refused(self, model: nn.Module, words: str) -> None:
        with pytest.raises(failures.BadInput, match=words):
            optimizing.Optimizer(model, hyper.HyperParameters())

    def test_sparse_gradients_count(self) -> None:
        model = nn.Embedding(5, 2, sparse=True)
        before = model.weight.detach().clone()
        optimizer = optimizing.Optimizer(model, hyper.HyperParameters(weight_decay=0.0))
        model(torch.tensor([1, 1])).sum().backward()
        optimizer.step(0.5)
        changed = (model.weight.detach() != before).any(dim=1)
        assert changed.tolist() == [False, True, False, False, False]


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def trained(
    given: hyper.HyperParameters, steps: int, start: Any = None
) -> tuple[nn.Module, optimizing.Optimizer]:
    model = small()
    optimizer = optimizing.Optimizer(model, given)
    if start is not None:
        model.load_state_dict(start[0])
        optimizer.restore(start[1])
    for _ in range(steps):
        optimizer.zero()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step(0.1)
    return model, optimizer


SAMPLES = 50


def arrays() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(SAMPLES, 6, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


@dataclass
class Made:
    """A run in one process, ready to train."""

    env: worker_env.WorkerEnv
    running: loop.Loop
    work: task.Task
    saver: checkpoints.Saver
    stop: stopping.StopSignal = field(repr=False)

    def weights(self) -> dict[str, torch.Tensor]:
        return loop.copied(self.work.model)

    def reported(self) -> list[dict[str, Any]]:
        return spool.Reader(self.env.folder.stream(0, "metrics")).batch(1000)


@contextlib.contextmanager
def made(
    folder: Path, *, every: int = 10, generation: int = 1, feed: Any = None, **hparams: Any
) -> Iterator[Made]:
    env = worker_env.load(ranks.variables(folder, generation=generation))
    texts = {"iterations": 40, "batch_size": 8, "learning_rate": 0.1, **hparams}
    given = hyper.parse({name: str(value) for name, value in texts.items()}, extra=False)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 2))
    work = task.Task(
        model=model,
        train=feed or feeds.ArrayFeed(*arrays()),
        evaluate=feeds.ArrayFeed(*arrays()),
        loss=task.cross_entropy_sum(0.0),
        classes=("a", "b"),
    )
    batch = hyper.global_batch(given, samples=len(work.train), workers=1)
    plan = loop.Plan(
        total_steps=loop.total_steps(given, samples=len(work.train), global_batch=batch),
        global_batch=batch,
        checkpoint_every=every,
        report_every=5,
        eval_every=given.eval_every,
    )
    stop = stopping.StopSignal()
    report = reporter.Reporter(env)
    saver = checkpoints.Saver(env)
    tools = loop.Tools(single.Single(), report, saver, stop)
    yield Made(env, loop.Loop(work, given, plan, tools), work, saver, stop)
    saver.close()
    report.close()


def newest(folder: Path) -> checkpoints.Snapshot:
    found = folders.newest(folder / "checkpoints")
    assert found is not None
    return checkpoints.read(found.folder)


class TestLoop:
    """Training steps, their accounting, and what ends them."""

    def test_it_learns_reports_and_saves(self, tmp_path: Path) -> None:
        with made(tmp_path, iterations=200) as run:
            result = run.running.run()
        assert result.step == 200
        assert result.evaluation is not None
        assert result.evaluation.metrics["accuracy"] >= 0.95
        assert sum(map(sum, result.evaluation.confusion)) == result.evaluation.count == SAMPLES
        steps = [entry["step"] for entry in run.reported() if "train/loss" in entry["values"]]
        assert steps == list(range(5, 201, 5))
        spent = result.breakdown["seconds"]
        assert isinstance(spent, dict) and spent.pop("communication") < 0.1 * spent["backward"]
        assert all(seconds > 0 for seconds in spent.values()), spent
        assert sum(spent.values()) <= float(str(result.breakdown["elapsed_seconds"]))
        held = newest(tmp_path)
        # 200 steps of 7 an epoch: 28 epochs and 4 steps of 8 samples.
        assert (held.step, held.epoch, held.cursor) == (200, 28, 32)
        assert held.metrics["eval/accuracy"] == result.evaluation.metrics["accuracy"]

    @pytest.mark.parametrize("at", [1, 7, 8, 23, 39])
    def test_interrupted_anywhere_it_ends_with_the_same_bits(self, tmp_path: Path, at: int) -> None:
        with made(tmp_path / "whole") as whole:
            whole.running.run()
        with made(tmp_path, every=at) as first:
            original = first.running._save

            def save_and_stop() -> None:
                original()
                first.stop.asked = True

            first.running._save = save_and_stop  # type: ignore[method-assign]
            with pytest.raises(failures.Yielded, match=f"after step {at}"):
                first.running.run()
        seeding.seed_all(99)
        with made(tmp_path, generation=2) as second:
            second.running.restore(newest(tmp_path))
            before_s = newest(tmp_path).state["spent"]["training"]
            ended = second.running.run()
        whole_s = float(str(ended.breakdown["training_seconds"]))
        assert before_s > 0 and whole_s == pytest.approx(before_s + ended.pace.seconds, abs=1e-5)
        wanted, found = whole.weights(), second.weights()
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)

    def test_parts_of_a_batch_add_up(self, tmp_path: Path) -> None:
        """Gradient accumulation changes the memory that is needed, and nothing else."""
        ends = []
        for number, parts in enumerate((1, 3)):
            with made(tmp_path / str(number), accumulate=parts) as run:
                run.work.model[1].p = 0.0  # type: ignore[index]
                run.running.run()
            ends.append(run.weights())
        assert all(torch.allclose(ends[0][n], ends[1][n], atol=1e-6) for n in ends[0])

    def test_a_loss_that_is_no_number_ends_it_before_anything_is_saved(
        self, tmp_path: Path
    ) -> None:
        inputs, targets = arrays()
        inputs[7] = math.nan
        feed = feeds.ArrayFeed(inputs, targets)
        with (
            made(tmp_path, every=3, feed=feed, eval_every=0) as run,
            pytest.raises(failures.Diverged, match=r"at step \d+; lower learning_rate, or set"),
        ):
            run.running.run()
        found = folders.newest(tmp_path / "checkpoints")
        if found is not None:
            weights = checkpoints.read(found.folder).model.values()
            assert all(torch.isfinite(value).all() for value in weights)

    def test_without_a_better_result_it_stops_early_and_for_good(self, tmp_path: Path) -> None:
        hparams = {"iterations": 400, "eval_every": 10, "patience": 2, "learning_rate": 1e-9}
        with made(tmp_path, **hparams) as run:
            # The first evaluation is the best one, then two bring nothing new.
            assert run.running.run().step == 30
        with made(tmp_path, generation=2, **hparams) as again:
            again.running.restore(newest(tmp_path))
            assert again.running.run().step == 30

    def test_a_checkpoint_of_another_order_is_refused(self, tmp_path: Path) -> None:
        with made(tmp_path) as run:
            run.running.run()
        with (
            made(tmp_path / "other", batch_size=9) as other,
            pytest.raises(failures.Broken, match="stands at epoch 5, sample 40; this run"),
        ):
            other.running.restore(newest(tmp_path))

    def test_a_checkpoint_of_another_model_is_refused(self, tmp_path: Path) -> None:
        with made(tmp_path) as run:
            run.running.run()
        held = newest(tmp_path)
        del held.model["0.weight"]
        with (
            made(tmp_path / "other") as other,
            pytest.raises(failures.Broken, match="is of another model"),
        ):
            other.running.restore(held)

    def test_the_tail_of_an_epoch_counts_as_what_it_is(self, tmp_path: Path) -> None:
        """Each step's loss is a mean over its true samples, also for the 2 that are left of 50."""
        inputs, targets = arrays()
        with made(tmp_path, iterations=7, learning_rate=1e-9, momentum=0, warmup=1) as run:
            run.work.model[1].p = 0.0  # type: ignore[index]
            seen: list[int] = []
            original = run.work.train.take

            def take(items: Any, seeds: Any) -> Any:
                seen.extend(items.tolist())
                return original(items, seeds)

            run.work.train.take = take  # type: ignore[method-assign]
            run.running.run()
            gradient = run.work.model[0].weight.grad  # type: ignore[index]
            last = torch.tensor(seen[-2:])
            run.work.model.zero_grad()
            outputs = run.work.model(inputs[last])
            nn.functional.cross_entropy(outputs, targets[last]).backward()
            mean = run.work.model[0].weight.grad  # type: ignore[index]
        assert sorted(seen) == list(range(SAMPLES))
        assert torch.allclose(gradient, mean, atol=1e-6)


class TestFeeds:
    """What user functions give."""

    class Noisy(torch.utils.data.Dataset[Any]):
        """Adds noise of all three generators, as augmentation does."""

        def __len__(self) -> int:
            return 10

        def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
            noise = torch.rand(1) + np.random.rand() + __import__("random").random()
            return torch.tensor([float(item)]) + noise, item % 2

    def test_noise_belongs_to_the_sample(self) -> None:
        feed = feeds.from_user(self.Noisy(), split="train")
        items, seeds = np.array([3, 1, 4]), np.array([30, 10, 40])
        whole = feed.take(items, seeds).inputs
        alone = [feed.take(items[i : i + 1], seeds[i : i + 1]).inputs for i in (2, 0, 1)]
        assert torch.equal(whole, torch.cat([alone[1], alone[2], alone[0]]))

    def test_bytes_become_shares_and_labels_become_long(self) -> None:
        feed = feeds.from_user((np.array([[0, 255]], np.uint8), np.array([1], np.int32)), split="x")
        batch = feed.take(np.array([0]), None)
        assert batch.inputs.tolist() == [[0.0, 1.0]]
        assert batch.targets.dtype == torch.int64

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (None, r"input_fn\('train'\) returned NoneType; expected a pair"),
            (([1], [1, 2]), "returned 1 inputs and 2 targets; expected one target per input"),
            (([], []), r"input_fn\('train'\) returned no samples"),
        ],
        ids=["nothing", "lengths", "empty"],
    )
    def test_other_things_are_refused(self, given: Any, words: str) -> None:
        with pytest.raises(failures.BadInput, match=words):
            feeds.from_user(given, split="train")


def test_a_users_loss_is_a_mean() -> None:
    loss = task.summed(lambda outputs, targets: (outputs - targets).abs().mean())
    assert loss(torch.ones(4), torch.zeros(4)) == 4
    with pytest.raises(failures.BadInput, match=r"returned Tensor of shape \(4,\); expected a sca"):
        task.summed(lambda outputs, targets: outputs)(torch.ones(4), torch.zeros(4))


def test_a_users_metric_is_a_mean_over_all_samples() -> None:
    inputs = torch.arange(600.0).reshape(600, 1)
    work = task.Task(
        model=nn.Identity(),
        train=feeds.ArrayFeed(inputs, inputs),
        evaluate=feeds.ArrayFeed(inputs, inputs),
        loss=task.summed(lambda outputs, targets: (outputs - targets).abs().mean()),
        metric=lambda outputs, targets: {"middle": float(outputs.mean())},
    )
    found = evaluate.evaluate(work, work.model, single.Single())
    assert found.metrics == {"middle": pytest.approx(299.5), "loss": 0.0}
    assert found.count == 600


class Counter:
    """Sums of two ranks, one of which had zeros: what is sent is kept."""

    def __init__(self) -> None:
        self.sent: list[torch.Tensor] = []

    def __call__(self, values: torch.Tensor) -> Counter:
        self.sent.append(values.clone())
        values.mul_(2)
        return self

    def wait(self) -> None:
        """Nothing is under way."""


class TestAveraging:
    """Gradients in buckets, sent while the backward pass runs."""

    def model(self) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))

    @pytest.mark.parametrize("bucket_bytes", [1, 40, 10_000])
    def test_sums_come_out_whatever_the_buckets(self, bucket_bytes: int) -> None:
        model, alone = self.model(), self.model()
        begin = Counter()
        exchange = averaging.Averaging(model, begin, bucket_bytes=bucket_bytes)
        for _ in range(2):
            for trained in (model, alone):
                trained.zero_grad()
            with exchange.exchange():
                model(torch.ones(4, 3)).sum().backward()
            alone(torch.ones(4, 3)).sum().backward()
            for a, b in zip(model.parameters(), alone.parameters(), strict=True):
                assert torch.equal(a.grad, 2 * b.grad)
        expected = {1: 4, 40: 2, 10_000: 1}[bucket_bytes]
        assert len(begin.sent) == 2 * expected

    def test_passes_before_the_last_stay_at_home(self) -> None:
        model = self.model()
        begin = Counter()
        exchange = averaging.Averaging(model, begin)
        model(torch.ones(4, 3)).sum().backward()
        assert begin.sent == []
        first = model[0].weight.grad.clone()
        with exchange.exchange():
            model(torch.ones(4, 3)).sum().backward()
        assert torch.equal(model[0].weight.grad, 4 * first)

    def test_parameters_that_nobody_used_stay_without_a_gradient(self) -> None:
        model = self.model()
        exchange = averaging.Averaging(model, Counter())
        with exchange.exchange():
            model[0](torch.ones(4, 3)).sum().backward()
        assert model[0].weight.grad is not None
        assert model[2].weight.grad is None

    def test_a_second_gradient_is_refused(self) -> None:
        model = self.model()
        exchange = averaging.Averaging(model, Counter())
        with (
            pytest.raises(failures.BadInput, match="twice in one backward pass.*use_reentrant"),
            exchange.exchange(),
        ):
            model(torch.ones(4, 3)).sum().backward()
            model(torch.ones(4, 3)).sum().backward()

    def test_kinds_are_not_mixed(self) -> None:
        kinds = [torch.float32, torch.float32, torch.float64]
        parameters = [nn.Parameter(torch.zeros(2, dtype=kind)) for kind in kinds]
        groups = list(averaging.grouped(parameters, 1000))
        assert [len(group) for group in groups] == [2, 1]
