"""Generated files are what their generators write now."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {
    "crds": ["quintile.cli.crds", "charts/quintile-crds/templates"],
    "openapi": ["quintile_api.openapi", "docs/reference/openapi.json"],
    "settings": ["quintile.settings", "docs/reference/settings.md"],
    "cli": ["quintile.cli.reference", "docs/reference/cli.md"],
    "labeling-openapi": ["quintile_labeling.openapi", "docs/reference/labeling-openapi.json"],
}


@pytest.mark.parametrize("name", GENERATED)
def test_generated_file_is_up_to_date(name: str) -> None:
    module, target = GENERATED[name]
    found = subprocess.run(
        [sys.executable, "-m", module, "--check", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


def test_the_chart_says_what_its_values_are_made_of() -> None:
    command = [sys.executable, "deploy/chart", "--check"]
    env = {name: text for name, text in os.environ.items() if name != "PYTHONSAFEPATH"}
    found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
