"""Write what the chart's values are made of: ``python deploy/chart [--check]``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pydantic
import values
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "quintile"
NOTE: Final = "Generated from deploy/chart/values.py by `make chart`; do not edit."
WIDTH: Final = 96


def main(arguments: list[str]) -> int:
    """Write the files, or say which of them are stale; return the exit code."""
    stale = []
    for path, text in files().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if "--check" in arguments and stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run make chart\n")
        return 1
    return 0


def files() -> dict[Path, str]:
    """Return the text of every generated file."""
    return {
        CHART / "values.yaml": f"# {NOTE}\n" + "\n".join(commented(values.Values)) + "\n",
        CHART / "values.schema.json": json.dumps(schema(), indent=1) + "\n",
        ROOT / "docs" / "reference" / "values.md": page(),
    }


def schema() -> dict[str, Any]:
    """Return the JSON schema that Helm checks values against."""
    text = json.dumps(values.Values.model_json_schema(by_alias=True))
    made = json.loads(
        text.replace("#/$defs/", "#/definitions/").replace('"$defs"', '"definitions"')
    )
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": NOTE,
        **_plain(made),
    }


def _plain(node: Any) -> Any:
    """Return a schema without what only pydantic reads; draft 7 ignores siblings of ``$ref``."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        name: _plain(item)
        for name, item in node.items()
        if not (name == "title" and isinstance(item, str)) and name != "default"
    }
    if "$ref" in kept and len(kept) > 1:
        kept["allOf"] = [{"$ref": kept.pop("$ref")}]
    return kept


def fields(
    model: type[pydantic.BaseModel], given: pydantic.BaseModel | None = None
) -> Iterator[tuple[str, pydantic.fields.FieldInfo, Any]]:
    """Yield name, field and default of each value of a group."""
    given = given or model()
    for name, info in model.model_fields.items():
        yield str(info.alias), info, getattr(given, name)


def commented(
    model: type[pydantic.BaseModel], given: pydantic.BaseModel | None = None, depth: int = 0
) -> Iterator[str]:
    """Yield the lines of values.yaml."""
    indent = "  " * depth
    for name, info, default in fields(model, given):
        if depth == 0:
            yield ""
        yield from (f"{indent}# {line}" for line in _wrapped(info.description or "", len(indent)))
        if isinstance(default, pydantic.BaseModel):
            yield f"{indent}{name}:"
            yield from commented(type(default), default, depth + 1)
        elif default and isinstance(default, dict | list):
            text = yaml.safe_dump(default, default_flow_style=False, sort_keys=False)
            yield f"{indent}{name}:"
            yield from (f"{indent}  {line}" for line in text.rstrip().splitlines())
        else:
            yield f"{indent}{name}: {json.dumps(default)}"


def page() -> str:
    """Return the Markdown page of all values."""
    lines = [
        "# Values of the chart `quintile`",
        "",
        f"<!-- {NOTE} -->",
        "",
        "Unknown names and wrong types are errors that name the value. Resources, tolerations, and",
        "rules and peers of NetworkPolicies are written as in Kubernetes itself.",
        "",
        "| value | default | meaning |",
        "|---|---|---|",
        *_rows(values.Values),
        "",
        "Each entry of `projects`:",
        "",
        "| value | default | meaning |",
        "|---|---|---|",
    ]
    for name, info in values.Project.model_fields.items():
        default = "required" if info.is_required() else f"`{json.dumps(info.default)}`"
        lines.append(f"| `{info.alias or name}` | {default} | {_cell(info.description)} |")
    return "\n".join(lines) + "\n"


def _rows(
    model: type[pydantic.BaseModel], given: pydantic.BaseModel | None = None, prefix: str = ""
) -> Iterator[str]:
    for name, info, default in fields(model, given):
        if isinstance(default, pydantic.BaseModel):
            yield from _rows(type(default), default, f"{prefix}{name}.")
        else:
            shown = _cell(json.dumps(default))
            yield f"| `{prefix}{name}` | `{shown}` | {_cell(info.description)} |"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
