"""Who calls, and whether it may: dependencies for routes.

People are whoever the API says they are (``Identities``); siblings hold the service token; the
worker of a round holds the token of its trial.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated

import fastapi

from quintile.adapters import http_guard, tokens_ed25519
from quintile.core import errors, identity
from quintile_labeling import context, desk

SERVICE = identity.Identity(kind="service", id="service", name="service", admin=True)


def caller(request: fastapi.Request, ctx: context.Current) -> identity.Identity:
    """Return who sent this request.

    Raises:
        Unauthorized: Nobody the API knows.
        Unavailable: The API is away.
    """
    authorization = request.headers.get("authorization", "")
    if authorization:
        given = bearer_of(authorization).encode()
        if ctx.service_token and hmac.compare_digest(given, ctx.service_token.encode()):
            return SERVICE
    cookie = request.cookies.get(http_guard.SESSION_COOKIE, "")
    return ctx.identities.identity(authorization=authorization, cookie=cookie)


Caller = Annotated[identity.Identity, fastapi.Depends(caller)]


def bearer_of(authorization: str) -> str:
    """Return the token of an Authorization header.

    Raises:
        Unauthorized: There is none, or it is of another scheme.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.Unauthorized("The Authorization header is not of the form 'Bearer <token>'.")
    return token.strip()


def member(role: identity.Role) -> Callable[..., identity.Identity]:
    """Return a dependency: at least ``role`` in the ``{project}`` of the path."""

    def check(project: str, found: Caller) -> identity.Identity:
        identity.require(found, project, role)
        return found

    return check


def service(found: Caller) -> identity.Identity:
    """Check that a sibling service calls.

    Raises:
        Forbidden: Somebody else calls.
    """
    if found.kind != "service":
        raise errors.Forbidden("This route is for the services of the platform alone.")
    return found


Viewer = Annotated[identity.Identity, fastapi.Depends(member("viewer"))]
Labeler = Annotated[identity.Identity, fastapi.Depends(member("labeler"))]
Manager = Annotated[identity.Identity, fastapi.Depends(member("manager"))]


def seat(project: str, job: str, found: Labeler) -> desk.Place:
    """Return the place of a person who answers tasks of ``{job}``."""
    return desk.Place(project=project, job=job, user=found.name)


Seat = Annotated[desk.Place, fastapi.Depends(seat)]


def trial(request: fastapi.Request, ctx: context.Current) -> tokens_ed25519.TrialClaims:
    """Return the claims of the worker that calls.

    Raises:
        Unauthorized: It holds no genuine trial token.
    """
    token = bearer_of(request.headers.get("authorization", ""))
    return ctx.verifier.verify(token, now_s=ctx.clock.now())


Trial = Annotated[tokens_ed25519.TrialClaims, fastapi.Depends(trial)]
