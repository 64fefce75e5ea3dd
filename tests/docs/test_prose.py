"""The prose tells the truth: names import, commands exist, links lead somewhere."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from quintile.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAME = re.compile(r"`((?:quintile|quintile_[a-z]+)(?:\.[A-Za-z_]+)+)`")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)(?:#[^)]*)?\)")
SHELL = re.compile(r"```(?:bash|console)\n(.*?)```", re.DOTALL)


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def resolve(dotted: str) -> object:
    """Import the longest module prefix of a dotted name and read the rest as attributes."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name and not ".".join(parts[:end]).startswith(error.name):
                raise
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_names_exist(page: Path) -> None:
    for dotted in sorted(set(NAME.findall(page.read_text(encoding="utf-8")))):
        resolve(dotted)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_exist(page: Path) -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    app = typer.main.get_command(cli.app)
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and ("=" in words[0] or words[0] == "$"):
                words = words[1:]
            if words[:1] == ["make"]:
                wanted = [word for word in words[1:] if "=" not in word]
                assert set(wanted) <= goals, f"{page.name}: no such goal in {line!r}"
            elif words and words[0].endswith("quintile"):
                check_command(app, words[1:], f"{page.name}: {line!r}")


def check_command(app: object, words: list[str], where: str) -> None:
    command = app
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            break
        command = found
    else:
        word = ""
    assert not getattr(command, "commands", {}) or not words or word.startswith("-"), (
        f"{where} names no command"
    )
    options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for word in words:
        if word == "--":
            break
        if word.startswith("--") and word != "--help":
            assert word.partition("=")[0] in options, f"{where}: no option {word}"


def test_python_snippets_parse() -> None:
    for page in PAGES:
        for block in re.findall(
            r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
        ):
            compile(block, page.name, "exec")


def test_makefile_helps() -> None:
    shown = subprocess.run(
        ["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True
    )
    for goal in ("setup", "up", "demo", "test", "check"):
        assert f"  {goal} " in shown.stdout
