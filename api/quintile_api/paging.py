"""Keyset pages: ``?limit=&cursor=`` in, ``{items, next_cursor}`` out. Cursors are opaque."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import fastapi

from quintile.core import errors
from quintile.core.meta import Message

ItemT = TypeVar("ItemT")
LIMIT = 500


class Listed(Message, Generic[ItemT]):
    """One page of a list; ``next_cursor`` is None on the last page."""

    items: list[ItemT]
    next_cursor: str | None = None


@dataclass(frozen=True)
class PageQuery:
    """Which page is asked for; ``after`` is the decoded cursor, empty for the first page."""

    limit: int
    after: tuple[str, ...]


def page(
    limit: Annotated[int, fastapi.Query(ge=1, le=LIMIT)] = 100,
    cursor: Annotated[str, fastapi.Query(max_length=1024)] = "",
) -> PageQuery:
    """Read the query parameters of a list."""
    return PageQuery(limit=limit, after=decode(cursor))


Page = Annotated[PageQuery, fastapi.Depends(page)]


def encode(*parts: str) -> str:
    """Return the cursor that continues after these key parts."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def decode(cursor: str) -> tuple[str, ...]:
    """Return the key parts of a cursor; empty for "".

    Raises:
        InvalidSpec: The text is not a cursor of ours.
    """
    if not cursor:
        return ()
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise ValueError("not a list of texts")
    except (binascii.Error, ValueError) as error:
        raise errors.InvalidSpec(
            "The cursor is not one that this list gave.",
            hint="Start again without a cursor.",
            field="cursor",
        ) from error
    return tuple(parts)
