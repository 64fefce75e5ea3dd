"""Writes answers to stdout: tables for people, JSON and YAML for programs, names for pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from quintile.cli.options import Output

Row = Mapping[str, Any]
WIDE = 10_000


def write_list(
    documents: Sequence[Row], columns: Mapping[str, Sequence[Any]], output: Output, *, name: str
) -> None:
    """Write several things.

    Args:
        documents: As JSON.
        columns: Values by heading, one per document.
        output: How.
        name: The heading whose values are the names.
    """
    if output is Output.NAME:
        write_lines(str(value) for value in columns[name])
    elif output is Output.TABLE:
        write_table(columns)
    else:
        write_document(list(documents), output)


def write_one(document: Row, facts: Mapping[str, Any], output: Output, *, name: str) -> None:
    """Write one thing: ``facts`` line by line for people, else the whole document."""
    if output is Output.NAME:
        write_lines([name])
    elif output is Output.TABLE:
        write_facts(facts)
    else:
        write_document(document, output)


def write_document(document: Any, output: Output) -> None:
    """Write JSON or YAML."""
    if output is Output.YAML:
        import yaml

        sys.stdout.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_table(columns: Mapping[str, Sequence[Any]]) -> None:
    """Write aligned columns; numbers to the right. Nothing is cut when stdout is no terminal."""
    from rich import box, console, table, text

    shown = table.Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for heading, values in columns.items():
        numeric = bool(values) and all(isinstance(value, int | float) for value in values)
        shown.add_column(heading.upper(), justify="right" if numeric else "left", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        shown.add_row(*(text.Text(word(value)) for value in row))
    width = None if sys.stdout.isatty() else WIDE
    console.Console(file=sys.stdout, width=width, highlight=False).print(shown)


def write_facts(facts: Mapping[str, Any]) -> None:
    """Write ``name  value`` lines; empty values are left out."""
    shown = {name: word(value) for name, value in facts.items() if value not in (None, "")}
    width = max((len(name) for name in shown), default=0)
    write_lines(f"{name:<{width}}  {value}" for name, value in shown.items())


def write_lines(lines: Any) -> None:
    """Write lines to stdout."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def note(line: str) -> None:
    """Write a line for people to stderr, so that stdout stays clean for pipes."""
    sys.stderr.write(f"{line}\n")


def word(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(value: float | str | None) -> str:
    """Return a share as a percentage."""
    return "-" if value in (None, "") else f"{100 * float(value or 0):.2f} %"


def age(timestamp: str) -> str:
    """Return how long ago an RFC 3339 time was."""
    if not timestamp:
        return "-"
    then = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    seconds = max(0.0, (datetime.now(tz=UTC) - then).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def moment(seconds: float | None) -> str:
    """Return seconds since the epoch as text."""
    if not seconds:
        return "-"
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M")
