"""What functions bring along when they are pickled: globals, closures, modules. Pure reading.

cloudpickle takes functions of ``__main__`` and of notebook cells by value, with all that they
refer to; functions of importable modules by name.
"""

from __future__ import annotations

import contextlib
import dis
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

OUR_PREFIX = "quintile"
_OF_EVERY_CLASS = ("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__")


def by_value(value: object) -> bool:
    """Return whether cloudpickle takes this function or class by value."""
    module = getattr(value, "__module__", None)
    if module is None or module == "__main__":
        return True
    found = sys.modules.get(module)
    top = str(getattr(value, "__qualname__", "")).partition(".")[0]
    return found is None or not hasattr(found, top)


def reached(functions: Iterable[object]) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of all that functions taken by value refer to, each value once."""
    seen: set[int] = set()
    waiting = list(functions)
    while waiting:
        for name, value in _references(waiting.pop()).items():
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value
                waiting.append(value)


def imported(functions: Iterable[object]) -> set[str]:
    """Return the names of the modules that functions need, by reference or by import."""
    listed = list(functions)
    names: set[str] = set()
    for value in (*listed, *(value for _name, value in reached(listed))):
        if isinstance(value, types.ModuleType):
            names.add(value.__name__)
        elif isinstance(value, types.FunctionType) and by_value(value):
            names |= _imports(value.__code__)
        else:
            names.add(str(getattr(value, "__module__", None) or type(value).__module__))
    return names - {"", "builtins", "__main__"}


def local_files(names: Iterable[str]) -> dict[str, Path]:
    """Return the files of modules that are the user's own, by path below their import root.

    A module is the user's own when it comes neither from the standard library nor from installed
    packages. Those that they import in turn come along, whole packages at a time.
    """
    found: dict[str, Path] = {}
    waiting = sorted({name.partition(".")[0] for name in names})
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        files = _own_files(name)
        found.update(files)
        for path in files.values():
            waiting.extend(_imported_by(path))
    return dict(sorted(found.items()))


def _references(value: object) -> Mapping[str, object]:
    """Return what a function or class taken by value refers to; nothing for anything else."""
    plain = getattr(value, "__func__", getattr(value, "fget", value))
    if not isinstance(plain, types.FunctionType | type) or not by_value(plain):
        return {}
    if isinstance(plain, type):
        members = {
            f"{plain.__name__}.{name}": one
            for name, one in vars(plain).items()
            if name not in _OF_EVERY_CLASS
        }
        return members | {base.__name__: base for base in plain.__bases__}
    return _of_function(plain)


def _of_function(function: types.FunctionType) -> dict[str, object]:
    names = sorted(_global_names(function.__code__))
    known = function.__globals__
    found: dict[str, object] = {name: known[name] for name in names if name in known}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a cell that is not filled yet
            found[name] = cell.cell_contents
    for number, value in enumerate(function.__defaults__ or ()):
        found[f"default {number} of {function.__name__}"] = value
    wrapped = getattr(function, "__wrapped__", None)
    return found if wrapped is None else {**found, f"{function.__name__} (wrapped)": wrapped}


def _global_names(code: types.CodeType) -> set[str]:
    names = {
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _imports(code: types.CodeType) -> set[str]:
    names = {
        str(step.argval) for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _imports(constant)
    return names


def _own_files(name: str) -> dict[str, Path]:
    """Return the source files of a top-level module of the user; empty for anything else."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return {}
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return {}
    origin = Path(spec.origin).resolve()
    ours = name.startswith(OUR_PREFIX)
    if ours or name in sys.stdlib_module_names or _is_installed(origin):
        return {}
    if spec.submodule_search_locations is None:
        return {origin.name: origin}
    root = origin.parent.parent
    return {path.relative_to(root).as_posix(): path for path in sorted(origin.parent.rglob("*.py"))}


def _is_installed(path: Path) -> bool:
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    places = [Path(sysconfig.get_path(kind)).resolve() for kind in kinds]
    parts = {"site-packages", "dist-packages"}
    return any(path.is_relative_to(place) for place in places) or bool(parts & set(path.parts))


def _imported_by(path: Path) -> set[str]:
    try:
        code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    except (OSError, SyntaxError, ValueError):
        return set()
    return {name.partition(".")[0] for name in _imports(code)}
