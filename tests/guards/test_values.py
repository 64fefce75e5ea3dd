"""Values, schema and reference page of the chart are what their generator writes now."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def test_files_are_up_to_date() -> None:
    command = [sys.executable, "deploy/chart", "--check"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_every_value_is_documented_and_every_group_closed() -> None:
    text = (ROOT / "charts" / "quintile" / "values.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    groups: dict[str, dict[str, Any]] = {"values": schema, **schema["definitions"]}
    for name, group in groups.items():
        assert group["additionalProperties"] is False, name
        for key, value in group["properties"].items():
            kind = schema["definitions"].get(value.get("$ref", "").rpartition("/")[2], {})
            assert value.get("description") or kind.get("description"), f"{name}.{key}"
