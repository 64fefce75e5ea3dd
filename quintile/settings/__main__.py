"""``python -m quintile.settings [--check] FILE``: write the reference page of all settings."""

from __future__ import annotations

import argparse
import pathlib
import sys

from quintile.settings import tree


def main(argv: list[str] | None = None) -> int:
    """Write the page, or with ``--check`` return 1 when it is out of date."""
    parser = argparse.ArgumentParser(prog="quintile.settings", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("file", type=pathlib.Path)
    wanted = parser.parse_args(argv)
    text = tree.reference()
    if not wanted.check:
        wanted.file.parent.mkdir(parents=True, exist_ok=True)
        wanted.file.write_text(text, encoding="utf-8")
        return 0
    if wanted.file.is_file() and wanted.file.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{wanted.file} is out of date; run python -m quintile.settings.\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
