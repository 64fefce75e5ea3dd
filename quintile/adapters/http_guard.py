"""Guards in front of every route of a service: host, origin, CSRF, body size, safe headers.

Pure ASGI middleware, so that streams pass unbuffered. Both services and the embedded server wrap
their application in ``Guard``; refusals are problem+json.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib import parse

from quintile.adapters import problem_json
from quintile.core import errors

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SESSION_COOKIE: Final = "quintile_session"
CSRF_HEADER: Final = "x-quintile-csrf"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PROBES: Final = frozenset({"/healthz", "/readyz"})
MIB: Final = 1024 * 1024

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
        b"form-action 'self'; img-src 'self' data: blob:",
    ),
)


@dataclass(frozen=True)
class Policy:
    """What the guard lets through.

    Attributes:
        hosts: Allowed ``Host`` values without port (``localhost``, ``quintile.example.com``).
        origins: Allowed ``Origin`` values beside the request's own (``https://example.com``).
        body_limit_bytes: Largest request body.
        body_limits: Larger limits by path prefix, ``*`` for any one segment; the longest prefix
            that fits wins.
        reads_by_post: Path prefixes (as above) below which a POST changes nothing, so that it needs
            no CSRF header; its origin is checked all the same.
    """

    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "[::1]"})
    origins: frozenset[str] = frozenset()
    body_limit_bytes: int = 8 * MIB
    body_limits: Mapping[str, int] = field(default_factory=dict)
    reads_by_post: tuple[str, ...] = ()

    def limit_of(self, path: str) -> int:
        """Return the body limit of a path in bytes."""
        fitting = [prefix for prefix in self.body_limits if _fits(prefix, path)]
        return self.body_limits[max(fitting, key=len)] if fitting else self.body_limit_bytes


class Guard:
    """ASGI middleware; ``lifespan`` and other scopes pass untouched."""

    def __init__(self, app: App, *, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("quintile.trace_id", secrets.token_hex(8))
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        limited = _Limited(receive, self._policy.limit_of(scope["path"]))
        answer = _Headed(send, scope, limited)
        try:
            self._check(scope, headers)
        except errors.QuintileError as error:
            await _refuse(error, scope, receive, answer)
            return
        await self._app(scope, limited, answer)

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        # A kubelet asks by the pod's address; these answers are the same for everybody.
        probe = scope["path"] in PROBES and scope["method"] in SAFE_METHODS
        known = "*" in self._policy.hosts or _without_port(host) in self._policy.hosts
        if not (known or probe):
            raise errors.Forbidden(
                f"Host {host!r} is not served here.",
                hint="Use the address that the server printed, or add the host to "
                "QUINTILE_API__ALLOWED_HOSTS.",
            )
        if scope["method"] not in SAFE_METHODS:
            self._check_origin(scope, headers, host)
        length = headers.get("content-length", "0")
        limit = self._policy.limit_of(scope["path"])
        if length.isdigit() and int(length) > limit:
            raise too_large(int(length), limit)

    def _check_origin(self, scope: Scope, headers: Mapping[str, str], host: str) -> None:
        origin = headers.get("origin")
        own = f"{scope.get('scheme', 'http')}://{host}"
        if origin is not None and origin != own and origin not in self._policy.origins:
            raise errors.Forbidden(
                f"Origin {origin!r} may not change anything here.",
                hint="Open the console at its own address, or add the origin to "
                "QUINTILE_API__ALLOWED_ORIGINS.",
            )
        by_cookie = SESSION_COOKIE in headers.get("cookie", "") and "authorization" not in headers
        reads = any(_fits(prefix, scope["path"]) for prefix in self._policy.reads_by_post)
        if by_cookie and not reads and headers.get(CSRF_HEADER) != "1":
            raise errors.Forbidden(
                "A request that changes something came with the session cookie alone.",
                hint="Send the header X-Quintile-CSRF: 1 as well.",
            )


class _Limited:
    """Counts body bytes as they arrive, for bodies without a Content-Length."""

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._seen_bytes = 0
        self.excess: errors.TooLarge | None = None

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen_bytes += len(message.get("body", b""))
            if self._seen_bytes > self._limit_bytes:
                self.excess = too_large(self._seen_bytes, self._limit_bytes)
        # The application sees a client that left; ``_Headed`` turns its answer into a 413.
        return {"type": "http.disconnect"} if self.excess else message


class _Headed:
    """Adds the safe headers to a response unless the route set its own."""

    def __init__(self, send: Send, scope: Scope, body: _Limited) -> None:
        self._send = send
        self._scope = scope
        self._body = body
        self._started = False
        self._refused = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._started:
            self._started = True
            if self._body.excess is not None:
                self._refused = True
                await _refuse(self._body.excess, self._scope, self._body, self._start)
                return
            await self._start(message)
        elif not self._refused:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message.get("headers", [])}
            added = [(name, value) for name, value in _HEADERS if name not in present]
            added.append((b"x-trace-id", self._scope["quintile.trace_id"].encode()))
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await self._send(message)


def too_large(size_bytes: int, limit_bytes: int) -> errors.TooLarge:
    """Return the error for a body beyond its limit."""
    return errors.TooLarge(
        f"The body has at least {size_bytes:,} bytes; at most {limit_bytes:,} are taken here.",
        hint="Send less at once.",
    )


async def _refuse(error: errors.QuintileError, scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem_json.response(error, trace_id=scope["quintile.trace_id"])
    await answer(scope, receive, send)


def _fits(prefix: str, path: str) -> bool:
    wanted, given = prefix.split("/"), path.split("/")
    if len(given) < len(wanted):
        return False
    same = all(want in ("*", have) for want, have in zip(wanted[:-1], given, strict=False))
    return same and given[len(wanted) - 1].startswith(wanted[-1])


def _without_port(host: str) -> str:
    try:
        parts = parse.urlsplit(f"//{host}")
        name = parts.hostname or ""
    except ValueError:
        return ""
    return f"[{name}]" if ":" in name else name
