"""Passes a request on to a TensorBoard, as one to third-party code: neither side trusts the other.

Upstream goes an allow-list of headers: no cookie, no token, nothing of ours. Downstream comes an
allow-list too, and a policy for the browser: scripts of these pages may call below TensorBoard's
own address alone, and open no windows or frames from elsewhere. So they cannot use the sign-in of
the person who looks, although they share the origin of the console.
"""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib import parse

import fastapi
import httpx
from fastapi import responses
from starlette import types

from quintile.core import errors

TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
TO_BOARD: Final = (
    "accept",
    "accept-encoding",
    "accept-language",
    "content-type",
    "if-modified-since",
    "if-none-match",
    "x-tensorboard-feature-flags",
)
FROM_BOARD: Final = (
    "cache-control",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "etag",
    "expires",
    "last-modified",
    "vary",
)


async def forward(
    request: fastapi.Request, socket: pathlib.Path, *, prefix: str
) -> fastapi.Response:
    """Return what TensorBoard answers to a request.

    Raises:
        Unavailable: It has ended.
    """
    transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=False)
    client = httpx.AsyncClient(transport=transport, timeout=TIMEOUT, trust_env=False)
    asked = client.build_request(
        request.method,
        f"http://tensorboard{_target(request.scope)}",
        headers=_chosen(request.headers, TO_BOARD),
        content=await request.body(),
    )
    try:
        answer = await client.send(asked, stream=True)
    except httpx.HTTPError as error:
        await client.aclose()
        raise errors.Unavailable("TensorBoard does not answer.", hint="Reload the page.") from error
    found = responses.StreamingResponse(
        _pieces(client, answer),
        status_code=answer.status_code,
        headers=_chosen(answer.headers, FROM_BOARD),
    )
    for name, value in safe_headers(request.headers.get("host", ""), prefix).items():
        found.headers.append(name, value)
    return found


def safe_headers(host: str, prefix: str) -> Mapping[str, str]:
    """Return what binds a browser that shows TensorBoard; its own policy holds beside ours. Pure.

    Raises:
        InvalidSpec: The policy cannot name the host.
    """
    if host.startswith("["):
        raise errors.InvalidSpec(
            "TensorBoard cannot be shown at a numeric IPv6 address.",
            hint="Open the console at http://localhost, with the port of the server.",
        )
    own = f"{host}{prefix}/"
    policy = "; ".join(
        (
            "sandbox allow-scripts allow-same-origin allow-downloads",
            f"connect-src {own}",
            f"script-src {own} 'unsafe-eval' 'unsafe-inline'",
            f"frame-src {own}",
            f"worker-src {own} blob:",
            f"img-src {own} data: blob:",
            "object-src 'none'",
            "manifest-src 'none'",
            "form-action 'none'",
            "base-uri 'none'",
            f"frame-ancestors {own}",
        )
    )
    return {
        "content-security-policy": policy,
        "x-frame-options": "SAMEORIGIN",
        "referrer-policy": "no-referrer",
    }


def _target(scope: types.Scope) -> str:
    """Return path and query as the browser sent them, escapes untouched."""
    path = scope.get("raw_path", b"").decode("latin-1") or parse.quote(scope["path"])
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


async def _pieces(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()
        await client.aclose()


def _chosen(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}
