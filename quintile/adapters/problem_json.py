"""Errors as ``application/problem+json`` (RFC 9457), the same in every service.

``install`` maps the Quintile family, pydantic's request validation errors, the framework's own
404/405 and anything unforeseen. The unforeseen answer names no detail; the log has it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import fastapi
import pydantic
from fastapi import exceptions as fastapi_exceptions
from fastapi import responses
from starlette import exceptions as starlette_exceptions

from quintile.core import errors, patterns

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "https://quintile.dev/problems/"
_TITLES: Final = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    416: "Range not satisfiable",
    422: "Invalid input",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
    507: "Store full",
}
_LOG = logging.getLogger("quintile.http")

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


def body_of(error: errors.QuintileError, *, trace_id: str = "") -> dict[str, Any]:
    """Return the problem document of an error."""
    fields = error.fields if isinstance(error, InvalidFields) else ()
    if not fields and error.field:
        fields = ((error.field, error.message),)
    return {
        "type": TYPE_PREFIX + error.type,
        "title": _TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": error.message,
        "hint": error.hint,
        "field": error.field,
        "errors": [{"field": path, "message": message} for path, message in fields],
        "trace_id": trace_id,
    }


def response(
    error: errors.QuintileError, *, trace_id: str = "", extra: Mapping[str, Any] | None = None
) -> fastapi.Response:
    """Return the HTTP response of an error; ``extra`` adds members to the document."""
    headers = {}
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return responses.JSONResponse(
        body_of(error, trace_id=trace_id) | dict(extra or {}),
        status_code=error.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def install(app: fastapi.FastAPI) -> None:
    """Add the exception handlers to an application."""
    app.add_exception_handler(errors.QuintileError, _on_quintile)
    app.add_exception_handler(fastapi_exceptions.RequestValidationError, _on_validation)
    app.add_exception_handler(starlette_exceptions.HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unforeseen)


def trace_id_of(request: fastapi.Request) -> str:
    """Return the id that the guard gave to this request; empty outside of it."""
    found = request.scope.get("quintile.trace_id", "")
    return str(found)


async def _on_quintile(request: fastapi.Request, error: Exception) -> fastapi.Response:
    assert isinstance(error, errors.QuintileError)
    if error.status >= 500:
        _LOG.warning("request failed", extra={"path": request.url.path, "reason": str(error)})
    return response(error, trace_id=trace_id_of(request))


async def _on_validation(request: fastapi.Request, error: Exception) -> fastapi.Response:
    assert isinstance(error, fastapi_exceptions.RequestValidationError)
    found = invalid_fields(error.errors(), what="The request")
    return response(found, trace_id=trace_id_of(request))


async def _on_http(request: fastapi.Request, error: Exception) -> fastapi.Response:
    assert isinstance(error, starlette_exceptions.HTTPException)
    found: errors.QuintileError
    method, path = request.method, request.url.path
    if error.status_code == 404:
        found = errors.NotFound(
            f"There is nothing at {path}.", hint="See the list of routes at /api/v1/openapi.json."
        )
    elif error.status_code == 405:
        found = errors.InvalidSpec(f"{path} does not take {method}.")
    else:
        found = errors.InvalidSpec(str(error.detail))
    shown = {"status": error.status_code, "title": _TITLES.get(error.status_code, "Error")}
    answer = response(found, trace_id=trace_id_of(request), extra=shown)
    answer.status_code = error.status_code
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _on_unforeseen(request: fastapi.Request, error: Exception) -> fastapi.Response:
    _LOG.error("request broke", exc_info=error, extra={"path": request.url.path})
    found = errors.QuintileError(
        "The server failed in a way that nobody foresaw.",
        hint="Look for the trace id in the server's log and report it.",
    )
    return response(found, trace_id=trace_id_of(request))


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
