"""Answers that are no success become the error family of ``quintile.core.errors``. Pure.

Called by the SDK and by adapters that speak HTTP with our services.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from quintile.core import errors

_KINDS: Final = (
    errors.InvalidSpec,
    errors.TooLarge,
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.Conflict,
    errors.Fenced,
    errors.Unavailable,
    errors.StoreFull,
    errors.RunFailed,
)
_BY_TYPE: Final[Mapping[str, type[errors.QuintileError]]] = {kind.type: kind for kind in _KINDS}
_BY_STATUS: Final[Mapping[int, type[errors.QuintileError]]] = {
    400: errors.InvalidSpec,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.InvalidSpec,
    409: errors.Conflict,
    413: errors.TooLarge,
    422: errors.InvalidSpec,
    429: errors.Unavailable,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
    507: errors.StoreFull,
}
_SHOWN = 8


def to_error(status: int, body: bytes, headers: Mapping[str, str]) -> errors.QuintileError:
    """Return the error that an answer with this status, body and headers means."""
    problem = _problem(body)
    name = str(problem.get("type", "")).rpartition("/")[2]
    kind = _BY_TYPE.get(name) or _BY_STATUS.get(status, errors.QuintileError)
    message = str(problem.get("detail") or "") or f"The server answered with status {status}."
    hint = str(problem.get("hint") or "")
    field = str(problem.get("field") or "")
    if kind is errors.Unavailable:
        wait_s = retry_after_s(headers)
        return errors.Unavailable(message, hint=hint, field=field, retry_after_s=wait_s)
    if status >= 500 and problem.get("trace_id"):
        message = f"{message} (trace id {problem['trace_id']})"
    return kind(message + _others(problem), hint=hint, field=field)


def retry_after_s(headers: Mapping[str, str], default: float = 1.0) -> float:
    """Return the seconds of a Retry-After header; dates and nonsense mean the default."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return default
    return seconds if 0 <= seconds < 3600 else default


def _problem(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _others(problem: Mapping[str, Any]) -> str:
    """Return further offending fields as lines; the first one is in the message already."""
    entries = problem.get("errors")
    if not isinstance(entries, list) or len(entries) < 2:
        return ""
    lines = [
        f"\n  {entry.get('field', '')}: {entry.get('message', '')}"
        for entry in entries[:_SHOWN]
        if isinstance(entry, dict)
    ]
    more = f"\n  and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return "".join(lines) + more
