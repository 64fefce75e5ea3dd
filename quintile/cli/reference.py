"""``python -m quintile.cli.reference [--check] FILE``: the page of all commands, from the code."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from quintile.cli import main as program
from quintile.settings import generated

HEAD = """# Commands

Generated from `quintile.cli` by `make docs`; do not edit.

Every command that answers with data takes `-o table|json|yaml|name`. Data goes to stdout, words for
people to stderr. Exit codes: 0 done, 1 the run failed, 2 bad input, 3 not found, 4 unavailable or
not allowed, 5 conflict, 124 it took longer than `--timeout`.
"""


def render() -> str:
    """Return the page as Markdown."""
    root = typer.main.get_command(program.app)
    lines = [HEAD.rstrip()]
    for path, command in sorted(_commands(root, "quintile")):
        lines.extend(["", f"## {path}", "", *_section(path, command)])
    return "\n".join(lines) + "\n"


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, found in inner.items():
        yield from _commands(found, f"{path} {name}")


def _section(path: str, command: Any) -> Iterator[str]:
    words = [_argument(one) for one in command.params if one.param_type_name == "argument"]
    options = [
        one
        for one in command.params
        if one.param_type_name == "option" and not one.hidden and "--help" not in one.opts
    ]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *words])
    yield from (f"    {usage}", "", inspect.cleandoc(command.help or ""))
    if options or words:
        yield from ("", "| option | default | meaning |", "|---|---|---|")
    for one in command.params:
        if one in options or one.param_type_name == "argument":
            yield _row(one)


def _argument(one: Any) -> str:
    name = one.name.upper() + ("..." if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


def _row(one: Any) -> str:
    if one.param_type_name == "argument":
        name, default = one.name.upper(), ""
    else:
        name = ", ".join([*one.opts, *one.secondary_opts])
        name += f" {one.metavar}" if one.metavar else ""
        default = _default(one)
    return f"| `{name}` | {default} | {(one.help or '').replace('|', '/')} |"


def _default(one: Any) -> str:
    if one.required:
        return "required"
    default = one.default
    if default is None or default is False or default == "" or callable(default):
        return ""
    return f"`{getattr(default, 'value', default)}`"


if __name__ == "__main__":
    raise SystemExit(generated.main({"": render()}, goal="docs"))
