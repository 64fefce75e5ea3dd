"""Calls about callers: identity, tokens, projects, version. A group of ``AsyncClient``."""

from __future__ import annotations

from collections.abc import AsyncIterator

from quintile.core.identity import Identity, Role
from quintile.sdk import http, paths, views
from quintile.sdk.http import Call


class AccountCalls:
    """Who calls, with what, and where."""

    def __init__(self, link: http.Http) -> None:
        self._link = link

    async def version(self) -> views.ServerVersion:
        """Return the version of the server; needs no credentials."""
        return await self._link.model(Call("GET", "/version"), views.ServerVersion)

    async def identity(self, *, authorization: str = "", cookie: str = "") -> Identity:
        """Return who holds these credentials (asked by a service), or who calls (no arguments).

        Args:
            authorization: The value of an Authorization header.
            cookie: The value of the session cookie.
        """
        headers = {
            "X-Quintile-Forwarded-Authorization": authorization,
            "X-Quintile-Forwarded-Cookie": cookie,
        }
        given = {name: value for name, value in headers.items() if value}
        return await self._link.model(Call("GET", "/identity", headers=given), Identity)

    def projects(self) -> AsyncIterator[views.Project]:
        """Yield the projects that the caller may know."""
        return self._link.pages(Call("GET", "/projects"), views.Project)

    async def login_link(self, user: str) -> str:
        """Return a new one-time sign-in link for a user; only administrators may."""
        path = paths.join("users", user, "login-link")
        found = await self._link.json(Call("POST", path))
        return str(found["url"])

    def tokens(self) -> AsyncIterator[views.Token]:
        """Yield the caller's API tokens, newest first."""
        return self._link.pages(Call("GET", "/tokens"), views.Token)

    async def create_token(
        self, name: str, *, scope: Role = "manager", days: int = 90
    ) -> views.Token:
        """Make an API token; its text is in this answer only."""
        body = {"name": name, "scope": scope, "days": days}
        return await self._link.model(
            Call("POST", "/tokens", json=body, repeat="never"), views.Token
        )

    async def revoke_token(self, token_id: str) -> None:
        """Revoke one of the caller's tokens."""
        await self._link.send(Call("DELETE", paths.join("tokens", token_id)))
