"""Bundles of functions: opened only by the Python that made them, refused with a reason."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from quintile_trainer import failures, functions

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def _stays_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield
    sys.path[:] = before


def bundle(folder: Path, given: Any, **header: Any) -> Path:
    (folder / "header.json").write_text(json.dumps({"format": 1, "python": HERE, **header}))
    (folder / "functions.pkl").write_bytes(cloudpickle.dumps(given))
    return folder


def test_functions_come_back_by_role(tmp_path: Path) -> None:
    factor = 3
    given = {"model_fn": lambda hparams: hparams["a"] * factor, "loss_fn": max}
    found = functions.load(bundle(tmp_path, given))
    assert found.model({"a": 2}) == 6
    assert found.loss is max
    assert (found.inputs, found.metric) == (None, None)
    assert Path.cwd() == tmp_path
    assert sys.path[0] == str(tmp_path)


def test_another_python_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    bundle(tmp_path, {}, python="3.8")
    (tmp_path / "functions.pkl").write_bytes(b"never read")
    with pytest.raises(failures.BadInput, match=rf"Python 3\.8, the workers run {HERE}; submit"):
        functions.load(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(failures.BadInput, match="has format 9, expected 1"):
        functions.load(bundle(tmp_path, {}, format=9))


GIVEN = {
    "no model": ({"loss_fn": max}, "holds loss_fn; expected model_fn"),
    "nothing": ({}, "holds nothing; expected model_fn"),
    "an unknown role": ({"model_fn": max, "eval_fn": max}, "holds eval_fn, model_fn; expected"),
    "no dictionary": ([max], "functions.pkl holds list; expected a dictionary"),
}


@pytest.mark.parametrize(("given", "words"), GIVEN.values(), ids=GIVEN)
def test_what_is_in_it_is_checked(tmp_path: Path, given: Any, words: str) -> None:
    with pytest.raises(failures.BadInput, match=words):
        functions.load(bundle(tmp_path, given))


def test_no_pickle_is_refused(tmp_path: Path) -> None:
    bundle(tmp_path, {})
    (tmp_path / "functions.pkl").unlink()
    with pytest.raises(failures.BadInput, match=r"holds no functions\.pkl"):
        functions.load(tmp_path)


BROKEN = {
    "cut short": pickle.dumps({"model_fn": max})[:-5],
    "no pickle": b"\x00\x01",
    "a module that is not here": b"cmissing_module_xyz\nf\n.",
    "a name that is not here": b"cjson\nno_such_name\n.",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_opened_is_refused_with_its_cause(tmp_path: Path, data: bytes) -> None:
    bundle(tmp_path, {})
    (tmp_path / "functions.pkl").write_bytes(data)
    with pytest.raises(failures.BadInput, match="cannot be opened here: .+; are all modules"):
        functions.load(tmp_path)


def test_other_major_versions_are_noted() -> None:
    lines = functions.version_notes({"numpy": "0.9", "no-such-thing": "1.0", "pytest": "9.9"})
    assert len(lines) == 2
    assert "no-such-thing 1.0 of the submitter is not installed" in lines[0]
    assert "was 0.9 at the submitter" in lines[1]
