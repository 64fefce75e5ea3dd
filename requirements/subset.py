"""Write the part of the lock files that some extras of Quintile need: what image builds install.

``python requirements/subset.py EXTRAS LOCK... > subset.lock``, where ``EXTRAS`` is a comma list of
extras in pyproject.toml, or ``build-system``. Which packages they need beyond those that are there
already, pip is asked without installing anything; versions and hashes are those of the lock files.
Standard library only; called by the Dockerfiles.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
ENTRY = re.compile(r"^(\S+?)==(\S+)( ;.*?)? \\\n(?:[ ].*\n)+", flags=re.MULTILINE)
OWN = re.compile(r"^quintile\[([\w,-]+)\]$")


def main(extras: str, locks: list[str]) -> int:
    """Print the entries; return the exit code."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    text = "".join(Path(lock).read_text(encoding="utf-8") for lock in locks)
    names = needed(sorted(set(wanted(project, extras.split(",")))), text)
    kept = [entry for entry in ENTRY.finditer(text) if normal(entry[1]) in names]
    sys.stdout.write("".join(entry[0] for entry in kept))
    return 0


def wanted(project: dict[str, Any], extras: list[str]) -> Iterator[str]:
    """Yield what the project itself asks for with these extras."""
    if extras == ["build-system"]:
        yield from project["build-system"]["requires"]
        return
    yield from project["project"]["dependencies"]
    for extra in extras:
        for requirement in project["project"]["optional-dependencies"][extra]:
            own = OWN.match(requirement)
            yield from wanted(project, own[1].split(",")) if own else [requirement]


def needed(requirements: list[str], text: str) -> set[str]:
    """Return the names of all packages that pip would take for these within the locks."""
    pins = "".join(f"{entry[1]}=={entry[2]}{entry[3] or ''}\n" for entry in ENTRY.finditer(text))
    with tempfile.TemporaryDirectory() as folder:
        limits, report = Path(folder, "limits.txt"), Path(folder, "report.json")
        limits.write_text(pins, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--report", str(report), "-c", str(limits), *requirements]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))
    return {normal(item["metadata"]["name"]) for item in found["install"]}


def normal(name: str) -> str:
    """Return a name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
