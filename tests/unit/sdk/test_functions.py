"""Functions as code bundles: what is captured, what is refused, what the rank opens."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from quintile.core import errors
from quintile.sdk import bundles, captured, functions
from quintile_trainer import functions as trainer_functions

OWN = """
import helping
TABLE = {"width": 3}

class Net:
    def __init__(self, width):
        self.width = helping.double(width)

def model_fn(hparams):
    import json
    return Net(TABLE["width"])
"""


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a notebook, whose functions can only be taken by value."""
    (tmp_path / "helping.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cells: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(OWN, "<cell>", "exec"), cells)
    monkeypatch.delitem(sys.modules, "helping")
    return cells


def header_of(bundle: bundles.Bundle) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        found: dict[str, Any] = json.loads(archive.read("header.json"))
    return found


def test_the_modules_of_the_user_travel(notebook: dict[str, Any]) -> None:
    bundle = functions.pack({"model_fn": notebook["model_fn"]})
    assert [one.name for one in bundle.files] == ["functions.pkl", "helping.py"]


def test_the_header_is_one_that_the_trainer_takes(notebook: dict[str, Any]) -> None:
    header = header_of(functions.pack({"model_fn": notebook["model_fn"]}))
    trainer_functions.check_header(header, python=bundles.python_version())
    assert header["cloudpickle"]
    assert trainer_functions.version_notes(header["modules"]) == []


def test_versions_are_those_of_what_is_used() -> None:
    cells: dict[str, Any] = {"__name__": "__main__"}
    exec("import numpy as np\ndef f(h):\n    import sklearn\n    return np.zeros(3)\n", cells)
    modules = header_of(functions.pack({"model_fn": cells["f"]}))["modules"]
    assert {"numpy", "scikit-learn"} <= set(modules)


def cell(code: str, **known: Any) -> Any:
    cells: dict[str, Any] = {"__name__": "__main__", **known}
    exec(compile(code, "<cell>", "exec"), cells)
    return cells["f"]


class TestCaptured:
    def test_big_data_is_refused_by_name(self) -> None:
        f = cell("def f(h):\n    return images", images=b"x" * 11_000_000)
        with pytest.raises(errors.InvalidSpec, match=r"'images' \(bytes, 11.0 MB\)") as caught:
            functions.pack({"model_fn": f})
        assert caught.value.field == "images"

    def test_also_behind_another_function(self) -> None:
        code = "def g():\n    return images\ndef f(h):\n    return (lambda: g())()"
        f = cell(code, images=b"x" * 11_000_000)
        with pytest.raises(errors.InvalidSpec, match="'images'"):
            functions.pack({"model_fn": f})

    def test_also_in_a_method(self) -> None:
        code = "class A:\n    def g(self):\n        return images\ndef f(h):\n    return A()"
        f = cell(code, images=b"x" * 11_000_000)
        with pytest.raises(errors.InvalidSpec, match="'images'"):
            functions.pack({"model_fn": f})

    def test_also_in_a_closure(self) -> None:
        f = cell(
            "def make(a):\n    def f(h):\n        return a\n    return f\nf = make(big)", big=b""
        )
        held = b"x" * 11_000_000
        f = cell("def make(a):\n    def g(h):\n        return a\n    return g\nf = make(b)", b=held)
        with pytest.raises(errors.InvalidSpec, match="'a'"):
            functions.pack({"model_fn": f})

    def test_what_is_not_used_is_not_counted(self) -> None:
        f = cell("def f(h):\n    return 1", images=b"x" * 11_000_000)
        assert functions.pack({"model_fn": f}).files

    def test_what_cannot_be_pickled_is_named(self) -> None:
        import threading

        f = cell("def f(h):\n    return lock", lock=threading.Lock())
        with pytest.raises(errors.InvalidSpec, match=r"'lock' \(lock\) cannot be sent"):
            functions.pack({"model_fn": f})


class TestModules:
    def test_installed_and_standard_modules_stay_home(self) -> None:
        assert captured.local_files({"json", "numpy", "quintile.sdk", "quintile_trainer"}) == {}

    def test_a_package_of_the_user_comes_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "mine"
        (package / "deep").mkdir(parents=True)
        for name in ("__init__.py", "nets.py", "deep/__init__.py"):
            (package / name).write_text("")
        (package / "nets.py").write_text("import besides\n")
        (tmp_path / "besides.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        assert importlib.util.find_spec("mine") is not None
        found = captured.local_files({"mine.nets"})
        assert sorted(found) == [
            "besides.py",
            "mine/__init__.py",
            "mine/deep/__init__.py",
            "mine/nets.py",
        ]
