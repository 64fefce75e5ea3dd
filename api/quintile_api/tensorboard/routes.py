"""Routes of TensorBoard: make a link, open it, and everything below its address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final
from urllib import parse

import fastapi
from fastapi import concurrency, responses

from quintile.core import errors, identity, meta
from quintile.core.meta import Message
from quintile_api import access, context
from quintile_api.identity import repository
from quintile_api.tensorboard import admission, boards, proxy

TAIL: Final = "tensorboard"
router = fastapi.APIRouter(prefix="/projects/{project}/experiments/{name}", tags=["tensorboard"])


@dataclass(frozen=True)
class Parts:
    """What the routes work with; on the application as ``state.tensorboard``."""

    boards: boards.Boards
    admission: admission.Admission


class BoardView(Message):
    """Where a running TensorBoard is; ``url`` opens it in a browser, once and for ten minutes."""

    url: str
    path: str


def parts(request: fastapi.Request) -> Parts:
    """Return the parts of the application that serves this request."""
    found = request.app.state.tensorboard
    assert isinstance(found, Parts)
    return found


Board = Annotated[Parts, fastapi.Depends(parts)]


def looker(
    request: fastapi.Request, ctx: context.Current, board: Board, project: str, name: str
) -> boards.Place:
    """Return the experiment that the caller may look at, by sign-in, token or pass.

    Raises:
        Unauthorized: Nobody we know calls.
        NotFound: There is no such project or experiment for this caller.
    """
    value = request.cookies.get(admission.COOKIE, "")
    user_id = board.admission.holder(value, project=project, name=name) if value else None
    if user_id is None:
        access.member("viewer")(project, access.caller(request, ctx), ctx)
        return place_of(ctx, project, name)
    with ctx.database.read() as session:
        found = repository.identity_of_user(session, user_id)
    if found is None:
        raise no_pass()
    identity.require(found, project, "viewer")
    return place_of(ctx, project, name)


Looker = Annotated[boards.Place, fastapi.Depends(looker)]


@router.post(f"/{TAIL}")
def open_board(
    caller: access.Viewer, ctx: context.Current, board: Board, project: str, name: str
) -> BoardView:
    """Start the experiment's TensorBoard unless it runs; return a link for the caller's browser."""
    place = place_of(ctx, project, name)
    board.boards.open(place)
    address = f"{ctx.api_url}{place.prefix}/"
    if caller.kind != "user":
        return BoardView(url=address, path=f"{place.prefix}/")
    ticket = board.admission.ticket(caller.id, project=project, name=name)
    return BoardView(
        url=f"{address}open?{parse.urlencode({'ticket': ticket})}", path=f"{place.prefix}/"
    )


@router.get(f"/{TAIL}/open", status_code=303, response_class=responses.RedirectResponse)
def redeem(
    request: fastapi.Request,
    ctx: context.Current,
    board: Board,
    *,
    project: str,
    name: str,
    ticket: str,
) -> fastapi.Response:
    """Use up a ticket: give this browser a pass for one TensorBoard, and go there."""
    lasts_s = ctx.settings.session_hours * 3600
    value = board.admission.redeem(ticket, project=project, name=name, lasts_s=lasts_s)
    address = f"{prefix_of(project, name)}/"
    answer = responses.RedirectResponse(address, status_code=303)
    answer.set_cookie(
        admission.COOKIE,
        value,
        max_age=lasts_s,
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="lax",
        path=address,
    )
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.get(f"/{TAIL}/{{path:path}}")
async def read(
    place: Looker, request: fastapi.Request, board: Board, path: str
) -> fastapi.Response:
    """Return what TensorBoard has there; its first page starts it."""
    return await _passed(place, request, board, starts=not path)


@router.post(f"/{TAIL}/{{path:path}}")
async def query(
    place: Looker, request: fastapi.Request, board: Board, path: str
) -> fastapi.Response:
    """Return what TensorBoard has there; some of its reading is by POST."""
    del path
    return await _passed(place, request, board, starts=False)


def place_of(ctx: context.Context, project: str, name: str) -> boards.Place:
    """Return the experiment of an address.

    Raises:
        NotFound: There is none.
    """
    document = ctx.resources.get(meta.Key("Experiment", project, name))
    uid = document["metadata"]["uid"]
    return boards.Place(project, name, uid=uid, prefix=prefix_of(project, name))


def prefix_of(project: str, name: str) -> str:
    """Return the path below which an experiment's TensorBoard lies."""
    return f"/api/v1/projects/{project}/experiments/{name}/{TAIL}"


def no_pass() -> errors.Unauthorized:
    """Return the error for a browser without a good pass."""
    return errors.Unauthorized(
        "This TensorBoard needs a link of its own, or a sign-in.",
        hint="Ask for one: job.get_tensorboard_url(), or open it from the experiment's page.",
    )


async def _passed(
    place: boards.Place, request: fastapi.Request, board: Parts, *, starts: bool
) -> fastapi.Response:
    socket = board.boards.find(place)
    if socket is None and starts:
        socket = await concurrency.run_in_threadpool(board.boards.open, place)
    if socket is None:
        raise errors.Unavailable(
            f"The TensorBoard of {place.name!r} was stopped, since nobody looked at it.",
            hint="Reload the page to start it again.",
        )
    return await proxy.forward(request, socket, prefix=place.prefix)
