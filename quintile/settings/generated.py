"""Files that are written from the code, committed, and checked for drift: one command for all.

``python -m MODULE TARGET`` writes, ``python -m MODULE --check TARGET`` compares and ends with 1
when a file is out of date.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence


def main(texts: Mapping[str, str], *, goal: str, argv: Sequence[str] | None = None) -> int:
    """Write or check generated files; return the exit code.

    Args:
        texts: Text by file name below the target; the name "" is the target itself.
        goal: What ``make`` calls it, for the message.
        argv: Arguments; None takes those of the process.
    """
    parser = argparse.ArgumentParser(description=f"Generated files of `make {goal}`.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("target", type=pathlib.Path)
    wanted = parser.parse_args(argv)
    files = {wanted.target / name if name else wanted.target: text for name, text in texts.items()}
    stale = [path for path, text in files.items() if _read(path) != text]
    if not wanted.check:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        return 0
    for path in stale:
        sys.stderr.write(f"{path} is out of date; run `make {goal}`.\n")
    return 1 if stale else 0


def _read(path: pathlib.Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
