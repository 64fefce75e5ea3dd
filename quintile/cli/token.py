"""``quintile token``: API tokens of the caller."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from quintile.cli.options import Output, OutputOption

app = typer.Typer(help="API tokens.", no_args_is_help=True)


class Scope(StrEnum):
    """The most that a token may do."""

    VIEWER = "viewer"
    LABELER = "labeler"
    REVIEWER = "reviewer"
    MANAGER = "manager"
    ADMIN = "admin"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[Scope, typer.Option("--scope", help="The most it may do.")] = Scope.MANAGER,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How long it lasts.")] = 90,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token and print it; it is shown this once."""
    from quintile.cli import connecting, rendering

    with connecting.session() as session:
        made = session.run(session.client.accounts.create_token(name, scope=scope.value, days=days))
    if output in (Output.JSON, Output.YAML):
        rendering.write_document(made.model_dump(), output)
        return
    rendering.note(f"token {made.id} ({made.scope}) is good until {rendering.moment(made.expires)}")
    rendering.write_lines([made.token])


@app.command("list")
def list_tokens(output: OutputOption = Output.TABLE) -> None:
    """List your tokens, newest first, without their secrets."""
    from quintile.cli import connecting, rendering

    with connecting.session() as session:
        found = session.collect(session.client.accounts.tokens())
    columns: dict[str, list[Any]] = {
        "id": [one.id for one in found],
        "name": [one.name for one in found],
        "scope": [one.scope for one in found],
        "expires": [rendering.moment(one.expires) for one in found],
        "last used": [rendering.moment(one.last_used) for one in found],
    }
    documents = [one.model_dump(exclude={"token"}) for one in found]
    rendering.write_list(documents, columns, output, name="id")


@app.command()
def revoke(
    ids: Annotated[list[str], typer.Argument(help="Ids of tokens, as `token list` shows.")],
) -> None:
    """Revoke tokens; they stop working at once."""
    from quintile.cli import connecting, rendering

    with connecting.session() as session:
        for token_id in ids:
            session.run(session.client.accounts.revoke_token(token_id))
            rendering.note(f"token {token_id} revoked")
