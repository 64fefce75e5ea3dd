"""``python -m quintile_api.openapi [--check] FILE``: the REST interface as a checked-in file.

The document depends on the code alone: no database, clock or key of a running instance is in it.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

import fastapi

from quintile_api import app


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the API."""
    bare = fastapi.FastAPI(title=app.TITLE, version=app.VERSION, summary=app.SUMMARY)
    app.include_routes(bare)
    return bare.openapi()


def render(found: dict[str, Any]) -> str:
    """Return a document as deterministic JSON text."""
    return json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write the file, or with ``--check`` return 1 when it is out of date."""
    parser = argparse.ArgumentParser(prog="quintile_api.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("file", type=pathlib.Path)
    wanted = parser.parse_args(argv)
    text = render(document())
    if not wanted.check:
        wanted.file.parent.mkdir(parents=True, exist_ok=True)
        wanted.file.write_text(text, encoding="utf-8")
        return 0
    if wanted.file.is_file() and wanted.file.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{wanted.file} is out of date; run `make openapi`.\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
