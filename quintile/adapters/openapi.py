"""The REST interface of a service as a checked-in file.

The document depends on the code alone: no database, clock or key of a running instance is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import fastapi


def render(include_routes: Callable[[fastapi.FastAPI], None], **about: Any) -> str:
    """Return the OpenAPI document of an application as deterministic JSON text."""
    bare = fastapi.FastAPI(**about)
    include_routes(bare)
    return json.dumps(bare.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
