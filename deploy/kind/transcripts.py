"""Run the commands of a page's ``console`` blocks and write down what they say now.

    python deploy/kind/transcripts.py docs/how-to/kubectl.md

Speaks to the cluster of kubectl, as the page says it was made ready. Commands (``$ ...``) and all
text outside of the blocks are written by hand and stay; outputs are replaced, with ages, times,
identities and node names as words that do not change from run to run.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
from collections.abc import Callable
from typing import Final

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
BLOCK: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT: Final = "$ "
LIMIT_S: Final = 900
AGE: Final = r"\d+[smhd](?:\d+[smh])?"


def _padded(word: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement that keeps the columns to its right where they are."""
    return lambda found: word.ljust(len(found.group(0)))


STABLE: Final[tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = (
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "0f8fad5b-d9cb-469f-a165-70867728950e"),
    (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2027-01-15T08:00:00Z"),
    (r"\b[0-9a-f]{64}\b", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
    (r"(Resource Version: +)\d+", r"\g<1>1234"),
    (r"(-t\d+-)[a-z2-7]{6}\b", r"\g<1>abcdef"),
    (r"(-(?:worker|ps|token|pods|net)-)[a-z2-7]{6}\b", r"\g<1>ghijkl"),
    (r"(-ghijkl-\d+-)[a-z0-9]{5}\b", r"\g<1>mnopq"),
    (rf"(?m)(?<= ){AGE}$", "1m"),
    (rf"(?m)(?<=  ){AGE}(?: \(x\d+ over {AGE}\))?(?=  )", _padded("1m")),
)
"""Patterns and what stands in their place; ages at the end of a line and between columns."""


def main() -> None:
    """Rewrite the pages that are named."""
    parser = argparse.ArgumentParser(description="Transcripts of a page, from a real cluster.")
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    for page in parser.parse_args().pages:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), said), encoding="utf-8")


def rewritten(text: str, ask: Callable[[str], str]) -> str:
    """Return a page whose blocks hold what ``ask`` answers to their commands."""

    def block(found: re.Match[str]) -> str:
        parts = (f"{command}\n{stable(ask(shell(command)))}" for command in commands(found[1]))
        return "```console\n" + "".join(parts) + "```"

    return BLOCK.sub(block, text)


def commands(block: str) -> list[str]:
    """Return the commands of a block as they are written; ``> `` begins a further line of one."""
    found: list[str] = []
    for line in block.splitlines():
        if line.startswith(PROMPT):
            found.append(line)
        elif line.startswith("> ") and found:
            found[-1] += f"\n{line}"
    return found


def shell(command: str) -> str:
    """Return a command without the prompts of its lines."""
    return "\n".join(line[2:] for line in command.splitlines())


def stable(output: str) -> str:
    """Return an output with the same words at every run, one line end at its end."""
    for pattern, words in STABLE:
        output = re.sub(pattern, words, output)
    lines = [line.rstrip() for line in output.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def said(command: str) -> str:
    """Run a command; return what it printed, errors too."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return done.stdout


if __name__ == "__main__":
    main()
