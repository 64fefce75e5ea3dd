"""Errors as ``application/problem+json`` (RFC 9457), the same in every service.

``install`` maps the Quintile family, pydantic's request validation errors, the framework's own
404/405 and anything unforeseen. The unforeseen answer names no detail; the log has it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import fastapi
from fastapi import exceptions as fastapi_exceptions
from fastapi import responses
from starlette import exceptions as starlette_exceptions

from quintile.adapters.parsing import InvalidFields, invalid_fields, parse_as
from quintile.core import errors

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "https://quintile.dev/problems/"
__all__ = [
    "InvalidFields",
    "body_of",
    "install",
    "invalid_fields",
    "parse_as",
    "response",
    "trace_id_of",
]
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
