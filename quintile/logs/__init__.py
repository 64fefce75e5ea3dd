"""Structured logging for the services: constant message, fields, no secret.

A composition root calls ``configure`` once; modules take ``logs.get(__name__)``. Records of the
standard library (uvicorn, SQLAlchemy) pass through the same processors.
"""

from quintile.logs.setup import configure, get, redact

__all__ = ["configure", "get", "redact"]
