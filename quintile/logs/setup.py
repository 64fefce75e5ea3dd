"""Configuration of structlog and of the standard library's root logger."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, cast

import pydantic
import structlog

HIDDEN: Final = "***"
_SECRET_NAMES: Final = re.compile(
    r"(token|secret|password|authorization|cookie|signature|private)", re.IGNORECASE
)
_SECRET_TEXTS: Final = re.compile(
    r"(?P<keep>(?:signature=|token=|Bearer\s+))[^\s&\"']+|\bqt_[A-Za-z0-9]+_[A-Za-z0-9_-]+"
)


def configure(*, level: str = "info", style: str = "text", stream: TextIO | None = None) -> None:
    """Set up logging for this process; callable again (tests), the last call wins.

    Args:
        level: debug, info, warning or error.
        style: ``text`` for people, ``json`` for collectors.
        stream: Where lines go; standard error by default.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def get(name: str, **fields: object) -> structlog.stdlib.BoundLogger:
    """Return a logger with ``fields`` bound to every line."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name, **fields))


def redact(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hide secrets: by type, by field name, and inside texts (URLs, headers, API tokens)."""
    for name, value in fields.items():
        if isinstance(value, pydantic.SecretStr | pydantic.SecretBytes) or (
            _SECRET_NAMES.search(name) and value
        ):
            fields[name] = HIDDEN
        elif isinstance(value, str):
            fields[name] = _SECRET_TEXTS.sub(_masked, value)
    return fields


def _masked(match: re.Match[str]) -> str:
    return (match.group("keep") or "") + HIDDEN
