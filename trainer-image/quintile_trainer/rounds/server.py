"""Calls of a round to the platform: JSON posts and uploads, tried again with growing pauses.

Standard library only.
"""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.error
import urllib.request
from typing import Any

from quintile_trainer import failures

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
AWAY_LIMIT_S = 1800.0
TIMEOUT_S = 60.0
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


class Server:
    """The API as this rank sees it.

    Args:
        api_url: Root of the API, without ``/api/v1``.
        token: The trial token.
        away_limit_s: How long the server may stay away before the round gives up.
    """

    def __init__(self, api_url: str, token: str, *, away_limit_s: float = AWAY_LIMIT_S) -> None:
        self._root = f"{api_url.rstrip('/')}/api/v1"
        self._token = token
        self._away_limit_s = away_limit_s

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send JSON to a route and return its JSON.

        Raises:
            Broken: The server refused (409: another attempt took over), or stayed away too long.
        """
        request = urllib.request.Request(
            self._root + path,
            data=json.dumps(body, separators=(",", ":")).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
            method="POST",
        )
        data = self._send(request, f"POST {path}")
        answer: dict[str, Any] = json.loads(data) if data else {}
        return answer

    def put(self, url: str, data: bytes) -> None:
        """Store bytes where a presigned URL says. Raises as ``post``."""
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(url, data=data, headers=headers, method="PUT")
        self._send(request, f"PUT {url.partition('?')[0]}")

    def _send(self, request: urllib.request.Request, what: str) -> bytes:
        give_up_s = time.monotonic() + self._away_limit_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                    data: bytes = response.read()
                return data
            except urllib.error.HTTPError as error:
                problem = _refusal(error, what)
                if error.code not in _AGAIN:
                    raise failures.Broken(problem) from error
            except (OSError, http.client.HTTPException) as error:
                problem = f"{what} was not answered: {type(error).__name__}: {error}"
            if time.monotonic() >= give_up_s:
                minutes = self._away_limit_s / 60
                raise failures.Broken(f"{problem}; gave up after {minutes:.0f} minutes")
            time.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _refusal(error: urllib.error.HTTPError, what: str) -> str:
    try:
        document = json.loads(error.read())
        detail = str(document.get("detail") or document.get("title") or "")
    except (ValueError, AttributeError, OSError):
        detail = ""
    if error.code == 409:
        detail = f"another attempt took over ({detail or 'fenced'})"
    return f"{what} was refused with {error.code}: {detail or error.reason}"
