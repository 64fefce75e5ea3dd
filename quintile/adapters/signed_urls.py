"""HMAC-signed object URLs: whoever holds one may read or write one key until it expires.

Made by the directory object store (``ObjectStore.url``), checked by the API's bytes route.
Form: ``{base_url}/api/v1/bytes/{key}?expires={seconds}&signature={hex}``; the signature covers
method, key and expiry.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal

from quintile.core import errors

Method = Literal["GET", "PUT"]
ROUTE: Final = "/api/v1/bytes"


class UrlSigner:
    """Signs and verifies with one secret key (32 random bytes, one per installation)."""

    def __init__(self, key: bytes, *, base_url: str) -> None:
        self._key = key
        self._base_url = base_url.rstrip("/")

    def url(self, key: str, *, method: Method, expires_s: int) -> str:
        """Return the URL for one object key; ``expires_s`` is seconds since the epoch."""
        signature = self._sign(key, method, expires_s)
        return f"{self._base_url}{ROUTE}/{key}?expires={expires_s}&signature={signature}"

    def verify(
        self, key: str, *, method: Method, expires_s: int, signature: str, now_s: float
    ) -> None:
        """Check a request for an object.

        Raises:
            Forbidden: The signature does not fit, or the URL has expired.
        """
        wanted = self._sign(key, method, expires_s)
        if not hmac.compare_digest(wanted.encode(), signature.encode()):
            raise errors.Forbidden(f"The signature of this URL does not fit {method} {key}.")
        if expires_s <= now_s:
            raise errors.Forbidden(
                "This URL has expired.", hint="Ask for a new one where you got this one."
            )

    def _sign(self, key: str, method: Method, expires_s: int) -> str:
        text = f"{method}\n{key}\n{expires_s}".encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
