"""A server, credentials and a project, for code that awaits.

::

    async with connect_async() as session:
        run = await AsyncExperiment.run(session, experiment_name="first", ...)
        job = await run.get_single_job()
        await job.wait_until_finish()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from quintile.sdk import configuration

if TYPE_CHECKING:
    from quintile.sdk.client import AsyncClient


@dataclass(frozen=True)
class AsyncSession:
    """A client and the project it works in. Belongs to one event loop; close it at the end."""

    client: AsyncClient
    project: str = configuration.DEFAULT_PROJECT

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def connect_async(
    *, url: str | None = None, token: str | None = None, project: str | None = None
) -> AsyncSession:
    """Return a session; what is not given comes from the environment, as for ``connect``."""
    from quintile.sdk import client

    found = configuration.find(url=url, token=token, project=project)
    return AsyncSession(client.AsyncClient(found.url, token=found.token), found.project)
