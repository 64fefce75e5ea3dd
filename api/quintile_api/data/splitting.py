"""Decides splits. Pure: no I/O; randomness is the digest of seed and item id.

Every part has exactly its size. Stratified: each class gives each part its fair share, rounded
down or up, never off by one or more.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

from quintile.core import errors

_COUNT: Final = re.compile(r"^[0-9]{1,12}$")
_SHARE: Final = re.compile(r"^[0-9]{0,3}(\.[0-9]{1,9})?%?$")
_PART: Final = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")


def part_sizes(parts: Mapping[str, str], *, rest: str, items: int) -> dict[str, int]:
    """Return the number of items by part, ``rest`` last (left out when nothing remains).

    Args:
        parts: Count (``360``), fraction (``0.2``) or percentage (``20%``) by part.
        rest: Name of the part for all other items.
        items: Number of items of the version.

    Raises:
        InvalidSpec: A size is no number, or the parts want more items than there are.
    """
    sizes: dict[str, int] = {}
    for name in (*parts, rest):
        if not _PART.match(name):
            raise errors.InvalidSpec(
                f"The part {name[:40]!r} has no good name; expected lower-case letters, digits "
                "and '-'.",
                field="parts",
            )
    if rest in parts:
        raise errors.InvalidSpec(
            f"The part {rest!r} is listed and is also the rest.",
            hint="Leave it out of parts; it takes what remains.",
            field="rest",
        )
    for name, text in parts.items():
        sizes[name] = _size(name, text.strip(), items)
        if not sizes[name]:
            raise errors.InvalidSpec(
                f"The part {name!r} of size {text[:40]!r} would hold none of the {items:,} items.",
                hint="Ask for at least one item.",
                field=f"parts.{name}",
            )
    wanted = sum(sizes.values())
    if wanted > items:
        raise errors.InvalidSpec(
            f"The parts want {wanted:,} items; the version has {items:,}.",
            hint="Ask for less; what remains becomes the rest.",
            field="parts",
        )
    return {**sizes, rest: items - wanted} if wanted < items else sizes


def assign(
    item_ids: Sequence[str], strata: npt.NDArray[np.int32], sizes: Mapping[str, int], *, seed: int
) -> list[str]:
    """Return the part of each item [N].

    Args:
        item_ids: [N] ids; their order does not matter to the result.
        strata: [N] class by which to stratify, all equal for none.
        sizes: Items by part, N in all.
        seed: Another seed gives another split.
    """
    order = sorted(range(len(item_ids)), key=lambda row: _draw(seed, item_ids[row]))
    groups: dict[int, list[int]] = {int(stratum): [] for stratum in np.unique(strata)}
    for row in order:
        groups[int(strata[row])].append(row)
    names = list(sizes)
    shares = round_table([len(rows) for rows in groups.values()], [sizes[name] for name in names])
    found = [""] * len(item_ids)
    for rows, counts in zip(groups.values(), shares, strict=True):
        place = 0
        for name, count in zip(names, counts, strict=True):
            for row in rows[place : place + count]:
                found[row] = name
            place += count
    return found


def round_table(rows: Sequence[int], columns: Sequence[int]) -> list[list[int]]:
    """Return whole numbers with these row and column sums (not all 0), each next to its fair share.

    The fair share of a cell is row * column / total; the answer is that rounded down or up.
    Which cells are rounded up is found with augmenting paths: the fractions themselves are a
    flow, so that a whole one exists.
    """
    total = sum(rows)
    table = [[row * column // total for column in columns] for row in rows]
    spare = [
        column - sum(cells) for column, cells in zip(columns, zip(*table, strict=True), strict=True)
    ]
    up: list[set[int]] = [set() for _ in rows]

    def fill(row: int, tried: set[int]) -> bool:
        remainders = [rows[row] * column % total for column in columns]
        for place in sorted(range(len(columns)), key=lambda at: -remainders[at]):
            if remainders[place] == 0 or place in up[row] or place in tried:
                continue
            tried.add(place)
            if spare[place] > 0:
                spare[place] -= 1
                up[row].add(place)
                return True
            for other in range(len(rows)):
                if place in up[other] and fill(other, tried):
                    up[other].remove(place)
                    up[row].add(place)
                    return True
        return False

    for row, count in enumerate(rows):
        for _ in range(count - sum(table[row])):
            found = fill(row, set())
            assert found, "the fractions are a flow, so that a whole one exists"
    return [
        [cell + (place in up[row]) for place, cell in enumerate(cells)]
        for row, cells in enumerate(table)
    ]


def _size(name: str, text: str, items: int) -> int:
    if _COUNT.match(text):
        return int(text)
    if not _SHARE.match(text) or not any(sign.isdigit() for sign in text):
        raise errors.InvalidSpec(
            f"The size of part {name!r} is {text[:40]!r}; expected a count (360), a fraction "
            "(0.2) or a percentage (20%).",
            field=f"parts.{name}",
        )
    share = Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if share > 1:
        raise errors.InvalidSpec(
            f"The size of part {name!r} is {text!r}, more than the whole.",
            hint="Write a whole number without a point for a count.",
            field=f"parts.{name}",
        )
    return math.floor(share * items + Fraction(1, 2))


def _draw(seed: int, item_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{item_id}".encode()).digest()
