"""Routes of bytes: signed object URLs and code bundles."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Annotated, Final

import fastapi
from fastapi import concurrency, responses

from quintile import ports
from quintile.adapters import http_guard, signed_urls
from quintile.core import errors, names
from quintile_api import access, context

PIECE_BYTES: Final = 1024 * 1024
_RANGE: Final = re.compile(r"^bytes=(\d*)-(\d*)$")
_HEADERS: Final = {
    "Accept-Ranges": "bytes",
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",
}
router = fastapi.APIRouter(tags=["bytes"])
Sha256 = Annotated[str, fastapi.Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/bytes/{key:path}")
def read(
    ctx: context.Current,
    key: str,
    expires: int,
    signature: str,
    range: Annotated[str, fastapi.Header()] = "",  # noqa: A002 - the header's name
) -> fastapi.Response:
    """Return an object or one range of it; the signature is the only credential."""
    _verify(ctx, key, "GET", expires=expires, signature=signature)
    return serve(ctx.objects, key, range_header=range, media_type="application/octet-stream")


@router.put("/bytes/{key:path}", status_code=201)
async def write(
    ctx: context.Current, request: fastapi.Request, key: str, expires: int, signature: str
) -> fastapi.Response:
    """Store an object whole or not at all; the signature is the only credential."""
    _verify(ctx, key, "PUT", expires=expires, signature=signature)
    upload = await concurrency.run_in_threadpool(ctx.objects.multipart, key)
    size_bytes = 0
    try:
        async for piece in request.stream():
            size_bytes += len(piece)
            if size_bytes > ctx.settings.object_limit_bytes:
                raise http_guard.too_large(size_bytes, ctx.settings.object_limit_bytes)
            if piece:
                await concurrency.run_in_threadpool(upload.write, piece)
        _check_length(request, size_bytes)
        await concurrency.run_in_threadpool(upload.commit)
    except BaseException:
        # Also when the client leaves: nothing half-written may stay.
        upload.abort()
        raise
    return fastapi.Response(status_code=201)


@router.put("/bundles/{sha256}", status_code=201)
async def put_bundle(
    _caller: access.ManagerAnywhere,
    ctx: context.Current,
    request: fastapi.Request,
    sha256: Sha256,
) -> fastapi.Response:
    """Store a code bundle under the SHA-256 of its bytes. Idempotent; 50 MB at most."""
    data = await request.body()
    if len(data) > ctx.settings.bundle_limit_bytes:
        raise http_guard.too_large(len(data), ctx.settings.bundle_limit_bytes)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise errors.InvalidSpec(
            f"The bundle's SHA-256 is {found[:12]}…, not {sha256[:12]}… as the address says.",
            hint="Send the bytes unchanged to the address of their own digest.",
            field="sha256",
        )
    key = names.bundle_key(sha256)
    await concurrency.run_in_threadpool(ctx.objects.put, key, data, sha256=sha256)
    return fastapi.Response(status_code=201)


@router.head("/bundles/{sha256}")
def has_bundle(
    _caller: access.ManagerAnywhere, ctx: context.Current, sha256: Sha256
) -> fastapi.Response:
    """Return 200 when the bundle is stored and 404 when not."""
    size_bytes = size_of(ctx.objects, names.bundle_key(sha256))
    return fastapi.Response(headers={"X-Bundle-Size": str(size_bytes)})


def size_of(objects: ports.ObjectStore, key: str) -> int:
    """Return the size of an object in bytes.

    Raises:
        NotFound: There is none.
    """
    for info in objects.list(key):
        if info.key == key:
            return info.size
    raise errors.NotFound(f"There is no object {key!r}.")


def serve(
    objects: ports.ObjectStore, key: str, *, range_header: str, media_type: str
) -> fastapi.Response:
    """Return the response for an object, whole or one range; never shown inline by a browser.

    Raises:
        NotFound: There is no such object.
    """
    size = size_of(objects, key)
    span = parse_range(range_header, size)
    if span is None:
        return fastapi.Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    start, end = span
    headers = {**_HEADERS, "Content-Length": str(end - start)}
    partial = (start, end) != (0, size)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return responses.StreamingResponse(
        _pieces(objects, key, start, end),
        status_code=206 if partial else 200,
        headers=headers,
        media_type=media_type,
    )


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of a Range header, end exclusive; None when it cannot be satisfied.

    Headers of other forms (several ranges, other units) mean the whole object, as RFC 9110 allows.
    """
    match = _RANGE.match(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return 0, size
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length > 0 else None
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None


def _pieces(objects: ports.ObjectStore, key: str, start: int, end: int) -> Iterator[bytes]:
    for place in range(start, end, PIECE_BYTES):
        yield objects.get(key, start=place, length=min(PIECE_BYTES, end - place))


def _verify(
    ctx: context.Context, key: str, method: signed_urls.Method, *, expires: int, signature: str
) -> None:
    ctx.urls.verify(
        key, method=method, expires_s=expires, signature=signature, now_s=ctx.clock.now()
    )


def _check_length(request: fastapi.Request, size_bytes: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) != size_bytes:
        raise errors.InvalidSpec(
            f"The body ended after {size_bytes} of {declared} bytes.", hint="Send it again."
        )
