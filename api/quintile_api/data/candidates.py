"""What an import found in its source: files that may become items, and files that may not.

Made by ``archives`` (zip, CSV) and ``arrays`` (npz), consumed by ``imports``. Also the rules that
all sources share: which names are safe, and how classes are found.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from quintile.core import datasets, errors
from quintile_api.data import decoders

NAME_LIMIT: Final = 512
CLASS_LIMIT: Final = 1000
CLASS_NAME_LIMIT: Final = 256
SHOWN_CLASSES: Final = 12
_DRIVE: Final = re.compile(r"^[A-Za-z]:")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NUMBER: Final = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Candidate:
    """One file that may become an item.

    Attributes:
        name: Its name as people know it, safe.
        read: Returns its bytes, or why it cannot be read. Called once, from one thread.
        picture: What it is when that is known without decoding (images that we encoded).
        label: Name of its class; None = unlabelled.
        row: Row of the manifest that names it, the header being row 1; None = no manifest.
    """

    name: str
    read: Callable[[], bytes | decoders.Refusal]
    picture: decoders.Picture | None = None
    label: str | None = None
    row: int | None = None


@dataclass(frozen=True)
class Found:
    """All candidates of a source in order of name, what was left out, and the classes."""

    candidates: tuple[Candidate, ...]
    rejected: tuple[datasets.RejectedFile, ...]
    classes: tuple[str, ...]


def rejected(
    name: str, reason: str, message: str, *, row: int | None = None
) -> datasets.RejectedFile:
    """Return the record of a file or row that is left out."""
    return datasets.RejectedFile(name=shown(name), row=row, reason=reason, message=message)


def shown(name: str) -> str:
    """Return a name that can be stored and printed: control characters escaped, cut to size."""
    clean = _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), name)
    return clean if len(clean) <= NAME_LIMIT else f"{clean[: NAME_LIMIT - 1]}…"


def unsafe(name: str) -> str:
    """Return what is wrong with a name, empty when nothing is.

    Names are data and are never joined to a path; these would still mislead whoever exports them.
    """
    parts = name.split("/")
    if _CONTROL.search(name):
        return "the name holds control characters"
    if name.startswith("/"):
        return "the name is an absolute path; expected a path inside the archive"
    if "\\" in name:
        return "the name holds a backslash; expected folders separated by '/'"
    if _DRIVE.match(name):
        return "the name begins with a drive letter; expected a path inside the archive"
    if ".." in parts:
        return "the name leads out of the archive with '..'"
    if not name or "" in parts or "." in parts:
        return "the name has an empty part or a '.'"
    if len(name) > NAME_LIMIT:
        return f"the name has {len(name)} characters; at most {NAME_LIMIT} fit"
    return ""


def check_classes(classes: Sequence[str]) -> None:
    """Check a given class list.

    Raises:
        InvalidSpec: Too many, empty, too long or doubled names.
    """
    if len(classes) > CLASS_LIMIT:
        raise errors.InvalidSpec(
            f"There are {len(classes)} classes; at most {CLASS_LIMIT} are taken.", field="classes"
        )
    for place, name in enumerate(classes):
        if not name.strip() or len(name) > CLASS_NAME_LIMIT or _CONTROL.search(name):
            raise errors.InvalidSpec(
                f"Class {place} is {shown(name)[:40]!r}; expected 1 to {CLASS_NAME_LIMIT} "
                "printable characters.",
                field=f"classes.{place}",
            )
    doubled = sorted({name for name in classes if classes.count(name) > 1})
    if doubled:
        raise errors.InvalidSpec(
            f"The classes hold {doubled[0]!r} more than once.",
            hint="Name every class once.",
            field="classes",
        )


def classes_of(labels: Iterable[str], given: Sequence[str]) -> tuple[str, ...]:
    """Return the given classes, or else those that occur, in natural order (2 before 10)."""
    if given:
        return tuple(given)
    found = tuple(sorted(set(labels), key=natural))
    check_classes(found)
    return found


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which numbers inside texts count as numbers."""
    return tuple(
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in _NUMBER.split(text)
        if part
    )


def unknown_class(label: str, classes: Sequence[str]) -> str:
    """Return the sentence about a label that is none of the expected classes."""
    known = ", ".join(classes[:SHOWN_CLASSES])
    more = f" and {len(classes) - SHOWN_CLASSES} more" if len(classes) > SHOWN_CLASSES else ""
    near = difflib.get_close_matches(label, classes, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"the class {shown(label)[:80]!r} is none of the expected ones: {known}{more}{hint}"


def keep_known(
    found: Iterable[Candidate], classes: Sequence[str]
) -> tuple[list[Candidate], list[datasets.RejectedFile]]:
    """Return the candidates whose label is a class (or none), and the others as rejected."""
    known = frozenset(classes)
    good: list[Candidate] = []
    bad: list[datasets.RejectedFile] = []
    for one in found:
        if one.label is None or one.label in known:
            good.append(one)
        else:
            message = unknown_class(one.label, classes)
            bad.append(rejected(one.name, "UnknownClass", message, row=one.row))
    return good, bad
