"""Input as a wire model, and what is wrong with it by field. Knows no web framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pydantic

from quintile.core import errors, patterns

ModelT = TypeVar("ModelT", bound=pydantic.BaseModel)


class InvalidFields(errors.InvalidSpec):
    """Input with one or more offending fields; ``fields`` holds (path, message) pairs."""

    def __init__(self, message: str, *, fields: Sequence[tuple[str, str]], hint: str = "") -> None:
        super().__init__(message, hint=hint, field=fields[0][0] if fields else "")
        self.fields = tuple(fields)


def invalid_fields(details: Sequence[Mapping[str, Any]], *, what: str) -> InvalidFields:
    """Return the error for pydantic's ``ValidationError.errors()``; ``what`` names the input."""
    fields = [(_path(entry["loc"]), _sentence(entry)) for entry in details]
    path, message = fields[0]
    where = f"{path}: " if path else ""
    more = f" ({len(fields) - 1} more)" if len(fields) > 1 else ""
    return InvalidFields(
        f"{what} is invalid: {where}{message}{more}.", fields=fields, hint=_hint(details[0])
    )


def parse_as(model: type[ModelT], value: object, *, what: str) -> ModelT:
    """Validate ``value`` as ``model``.

    Raises:
        InvalidFields: It does not fit; carries every offending field.
    """
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        raise invalid_fields(error.errors(include_url=False), what=what) from error


def _path(location: Sequence[int | str]) -> str:
    """Return ``spec.hparams[0].name`` for a location of pydantic, without the request's part."""
    parts = [part for part in location if part not in ("body", "query", "path", "header")]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sentence(entry: Mapping[str, Any]) -> str:
    text = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        return "this field is not known"
    if entry["type"] == "missing":
        return "this field is missing"
    if entry["type"] == "string_pattern_mismatch":
        text = patterns.words(entry["ctx"]["pattern"])
    given = entry.get("input")
    if isinstance(given, str | int | float | bool) and not isinstance(given, bytes):
        shown = repr(given) if len(repr(given)) <= 80 else repr(given)[:79] + "…"
        return f"{text}, got {shown}"
    return text


def _hint(entry: Mapping[str, Any]) -> str:
    if entry["type"] == "extra_forbidden":
        return "Remove the field or check its spelling."
    if entry["type"] == "missing":
        return "Add the field."
    if entry["type"] == "json_invalid":
        return "Send valid JSON with Content-Type: application/json."
    return "Correct the field and send the request again."
