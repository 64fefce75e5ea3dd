"""Keyset pages: ``?limit=&cursor=`` in, ``{items, next_cursor}`` out; the API's own form."""

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
    """Which page is asked for; ``after`` is the key that the last page ended with, or empty."""

    limit: int
    after: str


def page(
    limit: Annotated[int, fastapi.Query(ge=1, le=LIMIT)] = 100,
    cursor: Annotated[str, fastapi.Query(max_length=1024)] = "",
) -> PageQuery:
    """Read the query parameters of a list."""
    return PageQuery(limit=limit, after=decode(cursor))


Page = Annotated[PageQuery, fastapi.Depends(page)]


def encode(key: str) -> str:
    """Return the cursor that continues after this key."""
    return base64.urlsafe_b64encode(json.dumps([key]).encode()).decode()


def decode(cursor: str) -> str:
    """Return the key of a cursor; empty for "".

    Raises:
        InvalidSpec: The text is not a cursor of ours.
    """
    if not cursor:
        return ""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], str):
            raise ValueError("not one text")
    except (binascii.Error, ValueError) as error:
        raise errors.InvalidSpec(
            "The cursor is not one that this list gave.",
            hint="Start again without a cursor.",
            field="cursor",
        ) from error
    return str(parts[0])
