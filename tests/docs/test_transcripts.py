"""Transcripts are rewritten from what a cluster says, in words that stay; prose is left alone."""

from __future__ import annotations

import pathlib
import runpy
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "kubectl.md"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "deploy" / "kind" / "transcripts.py"))


def test_outputs_are_replaced_and_nothing_else(script: dict[str, Any]) -> None:
    page = "Prose.\n\n```console\n$ a\nold\n$ b \\\n>   c\nold\n```\n\n```bash\n$ a\nold\n```\n"
    asked = []

    def ask(command: str) -> str:
        asked.append(command)
        return f"new {len(asked)}\n"

    made = script["rewritten"](page, ask)
    assert asked == ["a", "b \\\n  c"]
    assert made == page.replace("$ a\nold\n$ b", "$ a\nnew 1\n$ b").replace(
        ">   c\nold", ">   c\nnew 2"
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("digits   Running   40   3m12s", "digits   Running   40   1m"),
        ("uid: 123e4567-e89b-12d3-a456-426614174000", "uid: 0f8fad5b-d9cb-469f-a165-70867728950e"),
        ("at 2026-11-30T22:01:02Z", "at 2027-01-15T08:00:00Z"),
        ("digits-t0-x2y4zq", "digits-t0-abcdef"),
        ("digits-t0-x2y4zq-a1-worker-qqqqqq-0-4zh9t", "digits-t0-abcdef-a1-worker-ghijkl-0-mnopq"),
        ("  Normal  Started  12s   operator", "  Normal  Started  1m    operator"),
        ("every 10m of waiting", "every 10m of waiting"),
        ("two lines  \n\n", "two lines"),
    ],
)
def test_words_that_differ_at_every_run_become_the_same(
    script: dict[str, Any], said: str, kept: str
) -> None:
    assert script["stable"](said).rstrip("\n") == kept
    assert script["stable"](kept).rstrip("\n") == kept


def test_the_page_holds_what_the_script_wrote(script: dict[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert script["BLOCK"].search(text)
    for block in script["BLOCK"].findall(text):
        assert block.startswith("$ ")
        for line in block.splitlines():
            plain = line if line.startswith(("$ ", "> ")) else script["stable"](line).rstrip("\n")
            assert line == plain
