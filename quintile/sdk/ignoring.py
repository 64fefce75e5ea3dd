"""Patterns of ``.quintileignore``: the rules of ``.gitignore``, without its rarer corners. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULTS = (
    ".*",
    "__pycache__/",
    "*.pyc",
    "venv/",
    "node_modules/",
    "*.egg-info/",
)
"""Ignored where git does not decide; a line ``!name`` takes one back."""


@dataclass(frozen=True)
class Rule:
    """One line: what it matches, whether it takes back, whether it is about folders only."""

    pattern: re.Pattern[str]
    back: bool
    folders_only: bool


def parse(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules of a file, in order; comments and empty lines are none."""
    rules = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        back = text.startswith("!")
        text = text.removeprefix("!")
        folders_only = text.endswith("/")
        rules.append(Rule(_regex(text.rstrip("/")), back, folders_only))
    return tuple(rules)


def is_ignored(rules: Iterable[Rule], path: str, *, folder: bool) -> bool:
    """Return what the last rule that matches says about a path with ``/`` between its parts."""
    ignored = False
    for rule in rules:
        if (folder or not rule.folders_only) and rule.pattern.fullmatch(path):
            ignored = not rule.back
    return ignored


def _regex(text: str) -> re.Pattern[str]:
    anchored = "/" in text
    body = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", text.lstrip("/")):
        if part == "**/":
            body += "(?:.*/)?"
        elif part == "**":
            body += ".*"
        elif part == "*":
            body += "[^/]*"
        elif part == "?":
            body += "[^/]"
        else:
            body += re.escape(part)
    return re.compile(body if anchored else f"(?:.*/)?{body}")
