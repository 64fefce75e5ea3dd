"""The route by which an operator follows an outbox: the same in every service that owns one."""

from typing import Annotated

import fastapi

from quintile.adapters import outbox
from quintile.core import fact_messages

WaitS = Annotated[float, fastapi.Query(ge=0, le=30)]


def add(router: fastapi.APIRouter) -> None:
    """Give a router ``GET changes``; the service's context holds its outbox."""

    @router.get("/changes")
    async def changes(
        request: fastapi.Request, since: str = "", wait_s: WaitS = 0.0
    ) -> fact_messages.ChangesView:
        """Keys changed after a cursor ("" = from now on); waits for one up to ``wait_s``."""
        tail: outbox.Outbox = request.app.state.context.outbox
        found = await tail.follow(since, wait_s=wait_s, gone=request.is_disconnected)
        return fact_messages.view_of(found)
