"""The reader of scripts: each sample once, whatever happens, and a place in every checkpoint."""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import quintile
from quintile import data
from quintile.testing import digits, objects, ranks
from quintile_trainer import context, failures, layout, worker_env

ITEMS = 200
Starter = Callable[..., worker_env.WorkerEnv]


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("store")
    store = objects.FakeObjectStore()
    version = digits.store(store, items=ITEMS, shard_bytes=20_000)
    for info in store.list(""):
        path = folder / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(info.key))
    found: dict[str, Any] = version.access(lambda key: (folder / key).as_uri()).model_dump(
        mode="json"
    )
    return found


@pytest.fixture
def start(tmp_path: pathlib.Path, access: dict[str, Any]) -> Iterator[Starter]:
    """Begin a rank; ``workers`` were submitted."""

    def begin(*, rank: int = 0, world_size: int = 1, workers: int = 2, **given: Any) -> Any:
        context.end()
        read = given.pop("access", access)
        program = {"dataset": {"name": "digits", "version": 1, "split": digits.SPLIT}}
        variables = ranks.variables(
            tmp_path, rank=rank, world_size=world_size, program=program, **given
        )
        path = pathlib.Path(variables["QUINTILE_RUN"])
        run = {**json.loads(path.read_text()), "access": read, "workers": workers}
        path.write_text(json.dumps(run))
        env = worker_env.load(variables)
        context.begin(env)
        return env

    yield begin
    context.end()


def read(reader: data.Reader, *, until: int) -> list[tuple[int, str]]:
    """Return (epoch, item) of what a rank learnt up to a step."""
    learnt: list[tuple[int, str]] = []
    for batch in reader:
        assert batch.images.shape == (len(batch.labels), 8, 8, 1)
        learnt += [(batch.epoch, ident) for ident in batch.item_ids]
        if batch.step == until:
            break
    return learnt


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 3), (3, 2)])
def test_each_sample_once_also_on_another_number_of_ranks(
    start: Starter, tmp_path: pathlib.Path, before: int, after: int
) -> None:
    learnt: collections.Counter[tuple[int, str]] = collections.Counter()
    state = tmp_path / "state"
    state.mkdir()
    (state / "model.pt").write_bytes(b"weights")
    for rank in reversed(range(before)):
        start(rank=rank, world_size=before)
        reader = data.reader(batch_size=7, epochs=2)
        learnt.update(read(reader, until=17))
        assert quintile.restored() is None
        quintile.checkpoint(state, loss=0.5)
    saved = layout.local_checkpoints(tmp_path / "checkpoints")[-1]
    manifest = json.loads((saved.folder / layout.MANIFEST).read_text())
    place = divmod(17, reader.steps // 2)
    assert (manifest["step"], manifest["epoch"], manifest["cursor"]) == (
        17,
        place[0],
        place[1] * 14,
    )
    for rank in range(after):
        start(rank=rank, world_size=after, generation=2, resume_dir=str(saved.folder))
        assert quintile.restored() == saved.folder
        learnt.update(read(data.reader(batch_size=7, epochs=2), until=0))
    assert set(learnt.values()) == {1}
    each = {epoch: {ident for found, ident in learnt if found == epoch} for epoch in (0, 1)}
    assert each[0] == each[1]
    assert len(each[0]) > ITEMS / 2


def test_the_evaluation_part_is_shared_out(start: Starter) -> None:
    seen: list[str] = []
    for rank in range(3):
        start(rank=rank, world_size=3)
        reader = data.reader(batch_size=7)
        seen += [ident for batch in reader.evaluation() for ident in batch.item_ids]
    learnt = {ident for _epoch, ident in read(reader, until=0)}
    assert len(seen) == len(set(seen)) > 0
    assert not learnt & set(seen)


def test_another_batch_size_after_a_checkpoint_is_refused(
    start: Starter, tmp_path: pathlib.Path
) -> None:
    start()
    read(data.reader(batch_size=7), until=3)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "model.pt").write_bytes(b"weights")
    quintile.checkpoint(tmp_path / "state")
    saved = layout.local_checkpoints(tmp_path / "checkpoints")[-1]
    start(generation=2, resume_dir=str(saved.folder))
    with pytest.raises(failures.BadInput, match="keep batch_size"):
        data.reader(batch_size=8)


def test_what_cannot_be_read_is_said(start: Starter, tmp_path: pathlib.Path) -> None:
    start(access=None)
    with pytest.raises(failures.BadInput, match="names none"):
        data.reader(batch_size=7)
    with pytest.raises(ValueError, match="step"):
        quintile.checkpoint(tmp_path)
    start()
    with pytest.raises(failures.BadInput, match="batch_size=0"):
        data.reader(batch_size=0)
    data.reader(batch_size=7)
    with pytest.raises(ValueError, match="once"):
        data.reader(batch_size=7)


def test_a_script_that_reads_by_itself_is_unmanaged(start: Starter, capsys: Any) -> None:
    start()
    context.current().tell_accounting()
    assert "sampleAccounting: unmanaged" in capsys.readouterr().err
    data.reader(batch_size=7)
    context.current().tell_accounting()
    start(access=None)
    context.current().tell_accounting()
    assert capsys.readouterr().err == ""


def test_outside_of_a_run_there_is_nothing_to_read() -> None:
    context.end()
    for call in (lambda: data.reader(batch_size=1), quintile.restored):
        with pytest.raises(context.NotInRank):
            call()
