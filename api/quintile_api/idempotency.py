"""Safe repeats of POST: the same Idempotency-Key has one effect and gets the same answer.

A route that creates something takes ``once: idempotency.Once`` and returns
``once.run(caller, work)``. Answers are kept for 24 hours, by caller and key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

import fastapi
import pydantic
import sqlalchemy as sa
from fastapi import responses

from quintile.core import errors, identity
from quintile_api import context, tables

Work = Callable[[], tuple[int, pydantic.BaseModel]]


class Repeater:
    """Runs the work of one request, or returns the stored answer of an equal one."""

    def __init__(self, ctx: context.Context, *, key: str, fingerprint: str) -> None:
        self._ctx = ctx
        self._key = key
        self._fingerprint = fingerprint

    def run(self, caller: identity.Identity, work: Work) -> fastapi.Response:
        """Do ``work`` (it returns status and body) once per key.

        Raises:
            InvalidSpec: The key was used with another request.
            Unavailable: The first request with this key is still running.
        """
        if not self._key:
            status, body = work()
            return _answer(status, body.model_dump_json(by_alias=True, exclude_none=False))
        stored = self._claim(f"{caller.kind}:{caller.id}")
        if stored is not None:
            return _answer(stored.status, stored.body)
        try:
            status, body = work()
        except BaseException:
            self._release(f"{caller.kind}:{caller.id}")
            raise
        text = body.model_dump_json(by_alias=True)
        with self._ctx.database.write() as session:
            row = session.get(tables.Repeat, (f"{caller.kind}:{caller.id}", self._key))
            if row is not None:
                row.status, row.body = status, text
        return _answer(status, text)

    def _claim(self, owner: str) -> tables.Repeat | None:
        with self._ctx.database.write() as session:
            self._ctx.database.serialize(session, f"repeat {owner} {self._key}")
            row = session.get(tables.Repeat, (owner, self._key))
            if row is None:
                session.add(
                    tables.Repeat(
                        caller=owner,
                        key=self._key,
                        fingerprint=self._fingerprint,
                        status=0,
                        body="",
                        created_s=self._ctx.clock.now(),
                    )
                )
                return None
            if row.fingerprint != self._fingerprint:
                raise errors.InvalidSpec(
                    f"The Idempotency-Key {self._key!r} came with another request before.",
                    hint="Use a new key for a new request.",
                    field="Idempotency-Key",
                )
            if row.status == 0 and row.created_s > self._ctx.clock.now() - 60:
                raise errors.Unavailable("The first request with this key is still running.")
            return row if row.status else None

    def _release(self, owner: str) -> None:
        with self._ctx.database.write() as session:
            session.execute(
                sa.delete(tables.Repeat).where(
                    tables.Repeat.caller == owner,
                    tables.Repeat.key == self._key,
                    tables.Repeat.status == 0,
                )
            )


async def once(
    request: fastapi.Request,
    ctx: context.Current,
    idempotency_key: Annotated[str, fastapi.Header(max_length=128)] = "",
) -> Repeater:
    """Read the header and the fingerprint (method, path, body) of this request."""
    text = f"{request.method}\n{request.url.path}\n".encode() + await request.body()
    return Repeater(ctx, key=idempotency_key, fingerprint=hashlib.sha256(text).hexdigest())


Once = Annotated[Repeater, fastapi.Depends(once)]


def _answer(status: int, text: str) -> fastapi.Response:
    return responses.Response(text, status_code=status, media_type="application/json")
