"""``python -m quintile_labeling.openapi [--check] FILE``: the service's REST interface."""

from __future__ import annotations

from quintile.adapters import openapi
from quintile.settings import generated
from quintile_labeling import app


def render() -> str:
    """Return the OpenAPI document."""
    return openapi.render(app.include_routes, title=app.TITLE, version=app.VERSION)


if __name__ == "__main__":
    raise SystemExit(generated.main({"": render()}, goal="openapi"))
