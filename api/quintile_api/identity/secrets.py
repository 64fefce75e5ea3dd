"""Making and checking secrets of high entropy: link tokens, API tokens, session cookies.

All secrets here are 256 random bits, so a plain SHA-256 of them is safe to store.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

TOKEN_PREFIX = "qt_"


def new_secret() -> str:
    """Return 256 random bits as URL-safe text."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(first: str, second: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(first.encode(), second.encode())


def api_token(token_id: str, secret: str) -> str:
    """Return the text that a program sends: ``qt_<id>_<secret>``."""
    return f"{TOKEN_PREFIX}{token_id}_{secret}"


def split_api_token(token: str) -> tuple[str, str] | None:
    """Return (id, secret) of an API token; None when the text is none."""
    if not token.startswith(TOKEN_PREFIX):
        return None
    token_id, _, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
    return (token_id, secret) if token_id and secret else None


def cookie(session_id: str, *, key: bytes) -> str:
    """Return the value of the session cookie: id and HMAC."""
    return f"{session_id}.{_mac(session_id, key)}"


def session_of_cookie(value: str, *, key: bytes) -> str | None:
    """Return the session id of a cookie that we made; None for any other."""
    session_id, _, mac = value.partition(".")
    return session_id if same(mac, _mac(session_id, key)) else None


def _mac(session_id: str, key: bytes) -> str:
    return hmac.new(key, b"session\n" + session_id.encode(), hashlib.sha256).hexdigest()
