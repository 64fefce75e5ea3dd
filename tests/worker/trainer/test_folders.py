"""Checkpoint folders: whole or not there, whatever instant the writer is killed at."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from quintile.testing import ranks
from quintile_trainer import folders, layout, opaque, worker_env

BEFORE = {"format": 1, "step": 1}


def contents(step: int) -> folders.Contents:
    return {
        "model.bin": lambda file: file.write(b"m" * 5000 + bytes([step % 256])),
        "state.json": lambda file: file.write(json.dumps({"step": step}).encode()),
    }


def write(folder: Path, step: int, *, generation: int = 1) -> Path:
    name = layout.checkpoint_name(generation, step)
    return folders.write(folder, name, contents(step), {"format": 1, "step": step})


def steps(folder: Path) -> list[int]:
    return [entry.step for entry in layout.local_checkpoints(folder)]


def test_a_folder_holds_its_files_and_a_manifest_that_fits(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    assert folders.problems(path) == []
    assert sorted(entry.name for entry in path.iterdir()) == [
        "manifest.json",
        "model.bin",
        "state.json",
    ]
    manifest = folders.manifest_of(path)
    assert manifest is not None
    assert [(file["path"], file["size"]) for file in manifest["files"]] == [
        ("model.bin", 5001),
        ("state.json", 11),
    ]


DAMAGE = {
    "cut short": lambda path: os.truncate(path / "model.bin", 100),
    "another byte": lambda path: (path / "model.bin").write_bytes(b"x" * 5001),
    "gone": lambda path: (path / "state.json").unlink(),
    "manifest cut short": lambda path: os.truncate(path / "manifest.json", 20),
    "manifest empty": lambda path: os.truncate(path / "manifest.json", 0),
    "manifest of another kind": lambda path: (path / "manifest.json").write_text("[]"),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: Any) -> None:
    write(tmp_path, 1)
    damage(write(tmp_path, 2))
    found = folders.newest(tmp_path)
    assert found is not None
    assert found.step == 1


def test_problems_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    os.truncate(path / "model.bin", 100)
    (path / "state.json").unlink()
    assert folders.problems(path) == [
        "model.bin has 100 bytes, not 5001",
        "state.json is missing",
    ]


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write(tmp_path, step)
    write(tmp_path, 5, generation=2)
    folders.forget(tmp_path, keep=2)
    # A later generation went on from a checkpoint, so that its steps are the newer ones.
    assert steps(tmp_path) == [30, 5]


def test_a_disk_that_fills_up_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, 1)

    def no_room(_file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        folders.write(tmp_path, "g1-step-2", {**contents(2), "more": no_room}, BEFORE)
    assert [path.name for path in tmp_path.iterdir()] == ["g1-step-1"]


def killed_at(folder: Path, instant: int) -> bool:
    """Write steps 2 and 3 in a child that dies at its ``instant``-th change of the file system.

    Returns whether it lived to the end.
    """
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) == 0
    left = instant

    def die(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in CHANGES and (event != "open" or "w" in str(arguments[1] or "")):
            left -= 1
            if left < 0:
                os._exit(9)

    sys.addaudithook(die)
    for step in (2, 3):
        write(folder, step)
        (folder.parent / "told").write_text(str(step))
        folders.forget(folder, keep=1)
    os._exit(0)


CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


def test_a_kill_at_any_instant_leaves_the_newest_one_good(tmp_path: Path) -> None:
    for instant in range(200):
        folder = tmp_path / str(instant) / "checkpoints"
        write(folder, 1)
        lived = killed_at(folder, instant)
        found = folders.newest(folder)
        assert found is not None, f"nothing left after a kill at {instant}"
        assert folders.problems(found.folder) == []
        told = folder.parent / "told"
        promised = int(told.read_text() or 0) if told.exists() else 1
        assert found.step >= promised, f"step {promised} was lost by a kill at {instant}"
        if lived:
            break
    # Every file, folder and rename of two checkpoints is an instant of its own.
    assert instant > 20
    assert steps(folder) == [3]
    assert [path.name for path in folder.iterdir()] == ["g1-step-3"]


def test_200_kills_at_random_instants_lose_nothing_that_was_promised(tmp_path: Path) -> None:
    """The kernel's own SIGKILL, in the middle of a system call too; each writer goes on."""
    seed = random.SystemRandom().randrange(2**31)
    chance = random.Random(seed)
    kept = tmp_path / "checkpoints"
    write(kept, 1)
    promised, cut_short = 1, 0
    for kill in range(200):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            for step in range(promised + 1, promised + 1000):
                write(kept, step)
                os.write(writing, step.to_bytes(4, "little"))
                folders.forget(kept, keep=2)
            os._exit(1)
        os.close(writing)
        # From the middle of the first checkpoint to some checkpoints later.
        select.select([], [], [], chance.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        told = b"".join(iter(lambda end=reading: os.read(end, 4096), b""))
        os.close(reading)
        promised = int.from_bytes(told[-4:], "little") or promised
        cut_short += any(path.name.startswith(".") for path in kept.iterdir())
        found = folders.newest(kept)
        assert found is not None, f"nothing left after kill {kill} of seed {seed}"
        assert folders.problems(found.folder) == []
        assert found.step >= promised, f"kill {kill} of seed {seed}"
        promised = found.step
    assert promised > 50, f"seed {seed}: writers hardly got anywhere"
    assert cut_short > 10, f"seed {seed}: no kill came in the middle of a checkpoint"


class TestOpaque:
    """Checkpoints of scripts."""

    def test_files_are_copied_under_the_manifest_of_all(self, tmp_path: Path) -> None:
        env = worker_env.load(ranks.variables(tmp_path, generation=2))
        source = tmp_path / "mine"
        source.mkdir()
        (source / "weights.pt").write_bytes(b"weights")
        path = opaque.save(env, source, step=7, metrics={"loss": 0.5})
        manifest = folders.manifest_of(path)
        assert manifest is not None
        assert (path.name, manifest["step"], manifest["metrics"]) == ("g2-step-7", 7, {"loss": 0.5})
        assert folders.problems(path) == []

    @pytest.mark.parametrize(
        ("name", "words"),
        [("", "holds 0 files"), ("a b", "cannot be part"), ("manifest.json", "cannot be part")],
        ids=["empty", "odd name", "our name"],
    )
    def test_what_cannot_be_stored_is_refused(self, tmp_path: Path, name: str, words: str) -> None:
        source = tmp_path / "mine"
        source.mkdir()
        if name:
            (source / name).write_bytes(b"x")
        with pytest.raises(ValueError, match=words):
            opaque.save(worker_env.load(ranks.variables(tmp_path)), source, step=1, metrics={})

    def test_subfolders_are_refused(self, tmp_path: Path) -> None:
        source = tmp_path / "mine"
        (source / "inner").mkdir(parents=True)
        with pytest.raises(ValueError, match="expected plain files"):
            opaque.save(worker_env.load(ranks.variables(tmp_path)), source, step=1, metrics={})
