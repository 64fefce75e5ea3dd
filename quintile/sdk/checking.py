"""What a caller gives, checked against the wire models before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from quintile.core import errors, patterns

ModelT = TypeVar("ModelT", bound=pydantic.BaseModel)


def parse(kind: type[ModelT], value: object, *, what: str, at: str = "") -> ModelT:
    """Return ``value`` as a model.

    Args:
        kind: The model.
        value: Plain JSON.
        what: Names it in the message.
        at: Path of the value in what the user wrote, as ``spec``.

    Raises:
        InvalidSpec: Names the first offending field, what was expected and how many more there are.
    """
    try:
        return kind.model_validate(value)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
        first = found[0]
        place = _path([at, *first["loc"]] if at else first["loc"])
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise errors.InvalidSpec(
            f"{what} is invalid: {place}: {_sentence(first)}{more}.",
            hint="Correct the value and send it again.",
            field=place,
        ) from error


def _path(parts: object) -> str:
    text = ""
    for part in parts if isinstance(parts, list | tuple) else ():
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sentence(entry: Mapping[str, Any]) -> str:
    kind = entry["type"]
    if kind == "extra_forbidden":
        return "this field is not known"
    if kind == "missing":
        return "this field is missing"
    if kind == "string_pattern_mismatch":
        return f"{patterns.words(entry['ctx']['pattern'])}, got {str(entry['input'])[:80]!r}"
    return str(entry["msg"]).removeprefix("Value error, ")
