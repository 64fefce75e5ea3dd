"""Reads small CSV tables that people send: import manifests and true labels.

Header in the first row; columns by name; ``,``, ``;`` or tab between them; a byte order mark is
ignored. Row numbers count as in a spreadsheet: the header is row 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from quintile.core import datasets, errors
from quintile_api.data import candidates

_DELIMITERS: Final = ",;\t"
_BROKEN: Final = "\ufffd"


@dataclass(frozen=True)
class Rows:
    """Good rows as (row number, key, label or None), and rows that were left out.

    ``labelled``: the table has a label column.
    """

    rows: tuple[tuple[int, str, str | None], ...]
    rejected: tuple[datasets.RejectedFile, ...]
    labelled: bool


def read(text: str, *, key: str, field: str) -> Rows:
    """Parse a table with the column ``key`` and perhaps ``label``.

    Args:
        text: The CSV.
        key: Name of the column that names the item (``file``, ``name``).
        field: Name of the request's field, for messages.

    Raises:
        InvalidSpec: No header, no such column, or not CSV at all.
    """
    lines = _lines(text.removeprefix("\ufeff"), field)
    _, header = next(lines, (1, []))
    columns = [cell.strip().lower() for cell in header]
    if key not in columns:
        raise errors.InvalidSpec(
            f"The first row of {field} has no column {key!r}; it reads "
            f"{candidates.shown(','.join(header))[:80]!r}.",
            hint=f"Begin with a header row: {key},label",
            field=field,
        )
    at, label_at = columns.index(key), _place(columns, "label")
    good: list[tuple[int, str, str | None]] = []
    bad: list[datasets.RejectedFile] = []
    first: dict[str, int] = {}
    for row, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        name = cells[at].strip() if at < len(cells) else ""
        label = cells[label_at].strip() if label_at is not None and label_at < len(cells) else ""
        problem = _problem(cells, columns, name, first)
        if problem is None:
            first[name] = row
            good.append((row, name, label or None))
        else:
            bad.append(candidates.rejected(name, *problem, row=row))
    return Rows(tuple(good), tuple(bad), label_at is not None)


def _problem(
    cells: Sequence[str], columns: Sequence[str], name: str, first: dict[str, int]
) -> tuple[str, str] | None:
    if len(cells) != len(columns):
        return "BadRow", (
            f"the row has {len(cells)} columns and the header {len(columns)}; quote texts that "
            "hold the separator"
        )
    if not name:
        return "BadRow", f"the row names no file; expected {','.join(columns)}"
    if any(_BROKEN in cell for cell in cells):
        return "BadEncoding", "the row holds characters that were lost; save the CSV as UTF-8"
    if name in first:
        return "DuplicateRow", f"row {first[name]} names it already; the first is taken"
    return None


def _lines(text: str, field: str) -> Iterator[tuple[int, list[str]]]:
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    row = 1
    try:
        for cells in reader:
            yield row, cells
            row = reader.line_num + 1
    except csv.Error as error:
        raise errors.InvalidSpec(
            f"Row {row} of {field} cannot be read as CSV: {error}.",
            hint="Save the table as CSV in UTF-8.",
            field=field,
        ) from error


def _place(columns: Sequence[str], name: str) -> int | None:
    return columns.index(name) if name in columns else None
