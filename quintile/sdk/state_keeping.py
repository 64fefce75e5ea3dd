"""Whether a script lets the platform keep its state, as far as its code shows. Pure.

Looked at when a script is packed. It needs no more than the names: a script that imports them and
never calls them deceives itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

_OURS: Final = ("quintile", "quintile_trainer")
_SAVES: Final = ("checkpoint", "checkpoint_here")


def is_shown(code: bytes) -> bool:
    """Return whether code uses ``hvd.elastic``, or saves checkpoints of the platform."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError):
        # The rank says so, with the line; here it is only unknown.
        return False
    imported = set(_imported(nodes))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)} | imported
    tops = {name.partition(".")[0] for name in imported}
    by_horovod = "horovod" in tops and any("elastic" in name.split(".") for name in used)
    by_us = bool(tops & set(_OURS)) and any(name.split(".")[-1] in _SAVES for name in used)
    return by_horovod or by_us


def _imported(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the dotted names of all imports."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{one.name}" for one in node.names)
