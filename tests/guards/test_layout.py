"""Folders, sizes and words of the code base. Read-only; part of ``make check``."""

from __future__ import annotations

import ast
import json
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("api", "operator", "labeling-service", "trainer-image", "deploy")
FILE_LINES, FILE_MEDIAN = 400, 150
FUNCTION_LINES, FUNCTION_P90 = 50, 30
PARAMETERS = 6
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def tracked(suffix: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", f"*{suffix}"], cwd=ROOT, capture_output=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def code() -> list[Path]:
    return [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] != "tests"]


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    first = node.body[0]
    documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    words = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - words


def test_files_stay_small() -> None:
    sizes = {path: path.read_text(encoding="utf-8").count("\n") for path in code()}
    large = [
        f"{path.relative_to(ROOT)}: {size}" for path, size in sizes.items() if size > FILE_LINES
    ]
    assert not large, f"over {FILE_LINES} lines, split them: {large}"
    assert statistics.median(size for size in sizes.values() if size > 1) <= FILE_MEDIAN


def test_functions_stay_small() -> None:
    found = [(name, length(node)) for path in code() for name, node in functions(path)]
    long = [f"{name}: {lines}" for name, lines in found if lines > FUNCTION_LINES]
    assert not long, f"over {FUNCTION_LINES} lines, split them: {long}"
    lines = sorted(lines for _name, lines in found)
    assert lines[int(len(lines) * 0.9)] <= FUNCTION_P90


def test_parameters_stay_few() -> None:
    many = []
    for path in code():
        for name, node in functions(path):
            given = node.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
            count = len([one for one in names if one not in ("self", "cls")]) + len(
                given.kwonlyargs
            )
            is_route = any("router" in ast.unparse(mark) for mark in node.decorator_list)
            is_command = any(".command" in ast.unparse(mark) for mark in node.decorator_list)
            if count > PARAMETERS and not is_route and not is_command:
                many.append(f"{name}: {count}")
    assert not many, f"more than {PARAMETERS} parameters, a dataclass is missing: {many}"


@pytest.mark.parametrize("folder", SERVICES)
def test_service_folders_hold_packages_only(folder: str) -> None:
    # An __init__.py in operator/ shadows the standard library's module; a loose file there
    # becomes a top-level module of every editable install.
    loose = [path.name for path in (ROOT / folder).glob("*.py")]
    assert not loose, f"{folder}/ must hold no .py file, found {loose}"


def test_tests_are_no_packages() -> None:
    found = list((ROOT / "tests").rglob("__init__.py"))
    assert not found, "tests never import each other; shared fakes live in quintile.testing"


def test_every_package_is_typed() -> None:
    packages = [ROOT / "quintile", *(p for f in SERVICES for p in (ROOT / f).glob("quintile_*"))]
    missing = [path.name for path in packages if not (path / "py.typed").is_file()]
    assert not missing


def test_names_say_something() -> None:
    vague = [str(path.relative_to(ROOT)) for path in code() if path.stem in VAGUE_NAMES]
    assert not vague, f"name the idea instead: {vague}"


def test_nothing_is_unfinished() -> None:
    mark = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in code()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if mark.search(line)
    ]
    assert not found


def test_locks_name_no_registry() -> None:
    locks = [*(ROOT / "requirements").glob("*.lock"), *ROOT.glob("**/package-lock.json")]
    locks = [
        lock for lock in locks if ".venv" not in lock.parts and "node_modules" not in lock.parts
    ]
    assert locks
    for lock in locks:
        assert "://" not in lock.read_text(), f"{lock.name} names a registry"


def test_changelog_knows_the_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"## [{version.group(1)}]" in (ROOT / "CHANGELOG.md").read_text()


def test_openapi_file_is_json() -> None:
    for path in (ROOT / "docs" / "reference").glob("*openapi.json"):
        assert json.loads(path.read_text())["openapi"].startswith("3.1")
