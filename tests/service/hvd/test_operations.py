"""The shim's operations between real processes: right values, any order, clear errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # optimizers import it at their first use; the forked ranks find it here
from torch import distributed, nn

from quintile.testing import forked
from quintile_trainer import failures
from quintile_trainer.hvd import api as hvd
from quintile_trainer.hvd import elastic

pytestmark = pytest.mark.torch

Tell = Callable[[Any], None]


@contextmanager
def job(rank: int, world_size: int, folder: Path) -> Iterator[None]:
    """Meet over a file, as a script that has made torch's group itself."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    store = distributed.FileStore(str(folder / "store"), world_size)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    hvd.init()
    yield
    hvd.shutdown()
    distributed.destroy_process_group()


def results(world_size: int, body: Callable[..., Any], folder: Path) -> list[Any]:
    with forked.ranks(world_size, body, folder) as ranks:
        return [rank.result() for rank in ranks]


def reduce_in_all_ways(tell: Tell, rank: int, world_size: int, folder: Path) -> dict[str, Any]:
    with job(rank, world_size, folder):
        mine = torch.tensor([1.0, 2.0]) * (rank + 1)
        kept = mine.clone()
        found = {
            "average": hvd.allreduce(mine),
            "old word": hvd.allreduce(mine, average=False),
            "sum": hvd.allreduce(mine, op=hvd.Sum),
            "min": hvd.allreduce(mine, op=hvd.Min),
            "max": hvd.allreduce(mine, op=hvd.Max),
            "product": hvd.allreduce(mine, op=hvd.Product),
            "scaled": hvd.allreduce(mine, op=hvd.Sum, prescale_factor=0.5, postscale_factor=10.0),
            "small": hvd.allreduce(mine, compression=hvd.Compression.fp16, op=hvd.Sum),
            "whole": hvd.allreduce(torch.tensor([rank + 1, 10]), op=hvd.Average),
            "scalar": hvd.allreduce(torch.tensor(float(rank))),
            "turned": hvd.allreduce(torch.arange(6.0).view(2, 3).t(), op=hvd.Sum),
            "none": hvd.allreduce(torch.zeros(0)),
        }
        assert torch.equal(mine, kept)
        assert found["small"].dtype == torch.float32
        in_place = mine.clone()
        assert hvd.allreduce_(in_place, op=hvd.Sum) is in_place
        handle = hvd.allreduce_async(mine, name="later", op=hvd.Sum)
        found["later"] = hvd.synchronize(handle)
        with pytest.raises(ValueError, match="has been cleared"):
            hvd.poll(handle)
        both = hvd.grouped_allreduce([mine, torch.tensor([rank])], op=hvd.Sum)
        found |= {"in place": in_place, "first": both[0], "second": both[1]}
        hvd.barrier()
        return {name: value.tolist() for name, value in found.items()}


def test_reductions(tmp_path: Path) -> None:
    expected = {
        "average": [2.0, 4.0],
        "old word": [6.0, 12.0],
        "sum": [6.0, 12.0],
        "min": [1.0, 2.0],
        "max": [3.0, 6.0],
        "product": [6.0, 48.0],
        "scaled": [30.0, 60.0],
        "small": [6.0, 12.0],
        "whole": [2, 10],
        "scalar": 1.0,
        "turned": [[0.0, 9.0], [3.0, 12.0], [6.0, 15.0]],
        "none": [],
        "later": [6.0, 12.0],
        "in place": [6.0, 12.0],
        "first": [6.0, 12.0],
        "second": [3],
    }
    for found in results(3, reduce_in_all_ways, tmp_path):
        for name, value in expected.items():
            assert torch.allclose(torch.tensor(found[name]), torch.tensor(value)), name


def move_rows(tell: Tell, rank: int, world_size: int, folder: Path) -> dict[str, Any]:
    with job(rank, world_size, folder):
        rows = torch.full((rank, 2), float(rank))
        found = {
            "gathered": hvd.allgather(rows),
            "none": hvd.allgather(torch.zeros(0, 3)),
            "root": hvd.broadcast(torch.tensor([rank, 7]), root_rank=2),
            "even": hvd.alltoall(torch.arange(3) + 10 * rank),
            "scattered": hvd.reducescatter(torch.arange(4.0), op=hvd.Sum),
        }
        sent, counts = hvd.alltoall(torch.arange(3) + 10 * rank, splits=torch.tensor([0, 1, 2]))
        found |= {"sent": sent, "counts": counts}
        several = hvd.grouped_allgather([torch.tensor([rank]), torch.tensor([rank * 2])])
        objects = hvd.allgather_object(["x" * rank, rank])
        chosen = hvd.broadcast_object({"from": rank}, root_rank=1)
        value = {name: tensor.tolist() for name, tensor in found.items()}
        return {**value, "several": [one.tolist() for one in several], "objects": objects,
                "chosen": chosen}  # fmt: skip


def test_rows_and_objects(tmp_path: Path) -> None:
    for rank, found in enumerate(results(3, move_rows, tmp_path)):
        assert found["gathered"] == [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
        assert found["none"] == []
        assert found["root"] == [2, 7]
        assert found["even"] == [rank, 10 + rank, 20 + rank]
        assert found["scattered"] == [[0.0, 3.0], [6.0], [9.0]][rank]
        assert found["counts"] == [rank] * 3
        assert found["sent"] == [[], [0, 10, 20], [1, 2, 11, 12, 21, 22]][rank]
        assert found["several"] == [[0, 1, 2], [0, 2, 4]]
        assert found["objects"] == [["", 0], ["x", 1], ["xx", 2]]
        assert found["chosen"] == {"from": 1}


def ask_in_other_orders(tell: Tell, rank: int, world_size: int, folder: Path) -> list[float]:
    with job(rank, world_size, folder):
        names = [f"t{number}" for number in range(12)]
        order = (
            names if rank == 0 else list(reversed(names)) if rank == 1 else names[6:] + names[:6]
        )
        handles = {
            name: hvd.allreduce_async(torch.tensor([float(name[1:])]), name=name, op=hvd.Sum)
            for name in order
        }
        return [hvd.synchronize(handles[name]).item() for name in names]


def test_ranks_may_ask_in_different_orders(tmp_path: Path) -> None:
    for found in results(3, ask_in_other_orders, tmp_path):
        assert found == [3.0 * number for number in range(12)]


def join_early(tell: Tell, rank: int, world_size: int, folder: Path) -> Any:
    """Rank r has r batches more than rank 0."""
    with job(rank, world_size, folder):
        sums = [hvd.allreduce(torch.ones(2), op=hvd.Sum)[0].item() for _ in range(2 + rank)]
        last = hvd.join()
        again = hvd.allreduce(torch.ones(1), name="after", op=hvd.Sum).item()
        return sums, last, again


def test_join_with_uneven_data(tmp_path: Path) -> None:
    for rank, (sums, last, again) in enumerate(results(3, join_early, tmp_path)):
        assert sums == [3.0, 3.0, 2.0, 1.0][: 2 + rank]
        assert last == 2
        assert again == 3.0


def make_mistakes(tell: Tell, rank: int, world_size: int, folder: Path) -> list[str]:
    with job(rank, world_size, folder):
        found = []
        for mistake in (
            lambda: hvd.allreduce(torch.ones(2 + rank), name="shape"),
            lambda: hvd.allreduce(torch.ones(2), name="op", op=hvd.Sum if rank else hvd.Max),
            lambda: hvd.allreduce(torch.ones(2), op=2),
            lambda: hvd.allreduce(torch.ones(2), process_set=object()),
            lambda: hvd.allreduce(torch.ones(2), presale_factor=1.0),
            lambda: hvd.broadcast_(torch.ones(2), root_rank=5),
            lambda: hvd.alltoall(torch.ones(3)),
            lambda: hvd.allgather(torch.tensor(1.0)),
        ):
            try:
                mistake()
            except (hvd.HorovodInternalError, ValueError, TypeError) as error:
                found.append(f"{type(error).__name__}: {error}")
        hvd.allreduce_async(torch.ones(1), name="twice") if rank else None
        if rank:
            with pytest.raises(hvd.HorovodInternalError, match="asked for again"):
                hvd.allreduce_async(torch.ones(1), name="twice")
        hvd.allreduce(torch.ones(1), name="twice") if not rank else None
        hvd.barrier()
        return found


def test_mistakes_are_errors_on_every_rank_and_the_job_goes_on(tmp_path: Path) -> None:
    expected = (
        "HorovodInternalError: allreduce.shape: shape is [3] on rank 1, and [2] elsewhere",
        "HorovodInternalError: allreduce.op: op is 1 on rank 1, and 4 elsewhere",
        "ValueError: op is 2; quintile's Horovod shim has Average, Sum, Min, Max, Product, not",
        "ValueError: process sets need real Horovod",
        "TypeError: unexpected arguments: presale_factor",
        "ValueError: root_rank is 5; expected 0 to 1",
        "ValueError: 3 rows cannot be shared by 2 ranks; give splits",
        "ValueError: allgather joins rows",
    )
    for found in results(2, make_mistakes, tmp_path):
        assert len(found) == len(expected)
        for text, begin in zip(found, expected, strict=True):
            assert text.startswith(begin), text


def differentiate(tell: Tell, rank: int, world_size: int, folder: Path) -> dict[str, Any]:
    with job(rank, world_size, folder):
        weight = float(rank + 1)
        found = {}
        value = torch.tensor([1.0, 2.0], requires_grad=True)
        (hvd.allreduce(value, op=hvd.Sum) * weight).sum().backward()
        found["sum"] = value.grad
        rows = torch.ones(rank + 1, requires_grad=True)
        (hvd.allgather(rows) * torch.arange(3.0)).sum().backward()
        found["gathered"] = rows.grad
        root = torch.ones(1, requires_grad=True)
        (hvd.broadcast(root, root_rank=0) * weight).sum().backward()
        found["broadcast"] = root.grad
        return {name: value.tolist() for name, value in found.items() if value is not None}


def test_gradients_flow_through(tmp_path: Path) -> None:
    first, second = results(2, differentiate, tmp_path)
    assert first["sum"] == second["sum"] == [3.0, 3.0]
    assert (first["gathered"], second["gathered"]) == ([0.0], [1.0, 2.0])
    assert (first["broadcast"], second["broadcast"]) == ([1.5], [0.0])


def normalise(tell: Tell, rank: int, world_size: int, folder: Path) -> list[Any]:
    with job(rank, world_size, folder):
        made = torch.Generator().manual_seed(1)
        images = torch.randn(6, 3, 4, 4, generator=made) * 3 + 1
        mine = images[:2] if rank == 0 else images[2:]
        mine = mine.clone().requires_grad_()
        layer = hvd.SyncBatchNorm(3)
        result = layer(mine)
        (result**3).sum().backward()
        whole, reference = images.clone().requires_grad_(), nn.BatchNorm2d(3)
        expected = reference(whole)
        (expected**3).sum().backward()
        part = slice(0, 2) if rank == 0 else slice(2, 6)
        assert mine.grad is not None
        assert whole.grad is not None
        pairs = [
            (result, expected[part]),
            (mine.grad, whole.grad[part]),
            (layer.running_mean, reference.running_mean),
            (layer.running_var, reference.running_var),
        ]
        return [(one - other).detach().abs().max().item() for one, other in pairs]


def test_batch_norm_sees_the_batches_of_all_ranks(tmp_path: Path) -> None:
    for found in results(2, normalise, tmp_path):
        assert max(found) < 1e-4, found


def share_state(tell: Tell, rank: int, world_size: int, folder: Path) -> Any:
    with job(rank, world_size, folder):
        torch.manual_seed(rank)
        model = nn.Linear(2, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1 * (rank + 1))
        sampler = elastic.ElasticSampler(range(10), shuffle=False)
        state = elastic.TorchState(model, optimizer, sampler=sampler, epoch=rank)

        @elastic.run
        def train(state: elastic.TorchState) -> list[int]:
            assert state.epoch == 0
            indices = list(sampler)
            sampler.record_batch(0, 2)
            state.epoch = 5
            state.commit()
            with torch.no_grad():
                model.weight.zero_()
            state.epoch = 6
            state.restore()
            return indices

        indices = train(state)
        left = list(sampler)
        same = hvd.allgather(model.weight.detach().view(1, -1))
        assert torch.equal(same[0], same[1])
        assert model.weight.abs().sum() > 0
        return indices, left, state.epoch, optimizer.param_groups[0]["lr"]


def test_elastic_state_is_shared_committed_and_restored(tmp_path: Path) -> None:
    for rank, (indices, left, epoch, rate) in enumerate(results(2, share_state, tmp_path)):
        assert indices == [rank, rank + 2, rank + 4, rank + 6, rank + 8]
        assert left == [rank + 4, rank + 6, rank + 8]
        assert (epoch, rate) == (5, 0.1)


def reduce_until_ended(tell: Tell, rank: int, world_size: int, folder: Path) -> None:
    with job(rank, world_size, folder):
        tell("ready")
        try:
            while True:
                hvd.allreduce(torch.ones(10))
        except hvd.HorovodInternalError as error:
            tell(failures.classify(error, world_size=world_size)[1])
            os._exit(0)


def test_a_killed_rank_is_a_lost_peer(tmp_path: Path) -> None:
    with forked.ranks(2, reduce_until_ended, tmp_path) as ranks:
        assert [rank.told() for rank in ranks] == ["ready"] * 2
        ranks[1].signal(signal.SIGKILL)
        assert ranks[0].told() == "PeerLost"


def leave_while_others_ask(tell: Tell, rank: int, world_size: int, folder: Path) -> str:
    with job(rank, world_size, folder):
        if rank == 0:
            hvd.shutdown()
            hvd.init()
            return f"{hvd.size()} again"
        try:
            hvd.allreduce(torch.ones(1), name="late")
        except hvd.HorovodInternalError as error:
            hvd.shutdown()
            hvd.init()
            return str(error)
        return "nothing"


def test_a_rank_that_shuts_down_ends_what_others_ask_and_may_come_again(tmp_path: Path) -> None:
    first, second = results(2, leave_while_others_ask, tmp_path)
    assert first == "2 again"
    assert second == "rank 0 has shut Horovod down and does not take part in allreduce.late"


def one_process(tell: Tell) -> dict[str, Any]:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    hvd.init()
    found = {
        "sum": hvd.allreduce(torch.ones(2), op=hvd.Sum, postscale_factor=3.0),
        "rows": hvd.allgather(torch.ones(2, 1)),
        "root": hvd.broadcast(torch.ones(1), root_rank=0),
        "mixed": hvd.alltoall(torch.arange(2)),
        "scattered": hvd.reducescatter(torch.arange(2.0)),
    }
    places = [hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size(), hvd.cross_size()]
    last = hvd.join()
    hvd.shutdown()
    return {**{name: value.tolist() for name, value in found.items()}, "at": places, "last": last}


def test_a_process_of_its_own() -> None:
    started = forked.start(one_process)
    found = started.result()
    started.end()
    assert found == {
        "sum": [3.0, 3.0],
        "rows": [[1.0], [1.0]],
        "root": [1.0],
        "mixed": [0, 1],
        "scattered": [0.0, 1.0],
        "at": [0, 1, 0, 1, 1],
        "last": 0,
    }
