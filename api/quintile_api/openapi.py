"""``python -m quintile_api.openapi [--check] FILE``: the REST interface of the API."""

from __future__ import annotations

from quintile.adapters import openapi
from quintile.settings import generated
from quintile_api import app


def render() -> str:
    """Return the OpenAPI document."""
    return openapi.render(
        app.include_routes, title=app.TITLE, version=app.VERSION, summary=app.SUMMARY
    )


if __name__ == "__main__":
    raise SystemExit(generated.main({"": render()}, goal="openapi"))
