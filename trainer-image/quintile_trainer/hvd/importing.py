"""``import horovod.torch`` finds the real package if it loads, and the shim otherwise."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import sys
import types
from collections.abc import Sequence
from importlib import abc, machinery
from typing import Final

from quintile_trainer import failures

VERSION: Final = "0.28.1+quintile"
"""The interface that the shim follows."""
_SOURCES: Final = {
    "horovod": "",
    "horovod.common": "",
    "horovod.common.exceptions": "exceptions",
    "horovod.common.elastic": "elastic",
    "horovod.torch": "api",
    "horovod.torch.compression": "compression",
    "horovod.torch.elastic": "elastic",
    "horovod.torch.elastic.sampler": "elastic",
    "horovod.torch.elastic.state": "elastic",
    "horovod.torch.functions": "api",
    "horovod.torch.mpi_ops": "api",
    "horovod.torch.optimizer": "api",
    "horovod.torch.sync_batch_norm": "api",
}
_PACKAGES: Final = frozenset(
    {"horovod", "horovod.common", "horovod.torch", "horovod.torch.elastic"}
)
_ADVICE: Final = "run `make horovod`, or use an image that has it"


class Choice(enum.StrEnum):
    """What ``import horovod.torch`` gives in this process."""

    REAL = "real"
    SHIM = "shim"


def install(preferred: Choice = Choice.REAL) -> Choice:
    """Make ``horovod.torch`` importable; return what it is. Loads the real one if it is there.

    The first import of the shim writes one line to standard error that says so.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return Choice.SHIM
    if preferred is Choice.SHIM:
        reason = "Horovod's shim is asked for"
    elif importlib.util.find_spec("horovod") is None:
        reason = "real Horovod is not installed"
    else:
        try:
            importlib.import_module("horovod.torch")
        except (ImportError, OSError, AttributeError) as error:
            # Built for another torch, or libmpi is missing: a script must not fail for that.
            reason = f"the installed Horovod does not load ({failures.first_line(error)})"
        else:
            return Choice.REAL
    for name in [name for name in sys.modules if name.partition(".")[0] == "horovod"]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder(reason))
    return Choice.SHIM


class _Finder(abc.MetaPathFinder):
    """Answers for ``horovod`` and all below it."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> machinery.ModuleSpec | None:
        del path, target
        if fullname.partition(".")[0] != "horovod":
            return None
        if fullname not in _SOURCES:
            raise ModuleNotFoundError(
                f"{fullname} is not in quintile's Horovod shim; {_ADVICE}", name=fullname
            )
        loader = _Loader(self._reason)
        return machinery.ModuleSpec(fullname, loader, is_package=fullname in _PACKAGES)


class _Loader(abc.Loader):
    """Fills a module of Horovod's name with what ours of another name holds."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def create_module(self, spec: machinery.ModuleSpec) -> types.ModuleType | None:
        del spec
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if name == "horovod.torch":
            line = f"[quintile] {self._reason}; quintile's shim over torch.distributed is used\n"
            sys.stderr.write(line)
        source = _SOURCES[name]
        if source:
            ours = importlib.import_module(f"quintile_trainer.hvd.{source}")
            vars(module).update({key: getattr(ours, key) for key in ours.__all__})
        else:
            vars(module)["__version__"] = VERSION
        vars(module)["__getattr__"] = _missing(name)


def _missing(module: str) -> object:
    def missing(name: str) -> object:
        # Dunder names are asked by the import system itself.
        advice = "" if name.startswith("__") else f"; {_ADVICE}"
        raise AttributeError(f"{module}.{name} is not in quintile's Horovod shim{advice}")

    return missing
