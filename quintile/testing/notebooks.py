"""Runs notebooks as tests do: the code cells in their order, in one process, as ``__main__``.

The last expression of a cell is shown as a notebook shows it, so that cards are exercised too.
"""

from __future__ import annotations

import ast
import json
import pathlib
from typing import Any


class CellFailed(Exception):
    """A cell raised; names the notebook, the cell and the error."""


def run(path: pathlib.Path, **given: Any) -> dict[str, Any]:
    """Run a notebook and return its names; ``given`` names are there from the start.

    Raises:
        CellFailed: A cell raised.
    """
    names: dict[str, Any] = {"__name__": "__main__", **given}
    for number, source in enumerate(code_cells(path), start=1):
        try:
            _run_cell(source, names, label=f"{path.name}[{number}]")
        except Exception as error:  # the boundary to the notebook's code, which may raise anything
            raise CellFailed(f"{path.name}, code cell {number}: {error!r}\n{source}") from error
    return names


def code_cells(path: pathlib.Path) -> list[str]:
    """Return the sources of the code cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _run_cell(source: str, names: dict[str, Any], *, label: str) -> None:
    tree = ast.parse(source, label)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        last = None
    else:
        tree.body.pop()
    exec(compile(tree, label, "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), label, "eval"), names)
        card = getattr(value, "_repr_html_", None)
        if card is not None:
            card()
