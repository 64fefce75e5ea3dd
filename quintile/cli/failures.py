"""Exit codes and messages of the command line: one table, one place that writes errors.

::

    0    done                       3    not found
    1    the run failed             4    unavailable, or not allowed
    2    bad input                  5    conflict
    124  it took longer than --timeout
    130  interrupted
"""

from __future__ import annotations

import sys
from typing import Final

from quintile.core import errors

TIMED_OUT: Final = 124
INTERRUPTED: Final = 130


def code_of(error: BaseException) -> int:
    """Return the exit code that an error means."""
    if isinstance(error, errors.QuintileError):
        return error.exit_code
    if isinstance(error, TimeoutError):
        return TIMED_OUT
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, OSError):
        return errors.InvalidSpec.exit_code
    return errors.QuintileError.exit_code


def lines_of(error: BaseException) -> list[str]:
    """Return what people read about an error: what failed, and what to do next."""
    if isinstance(error, errors.QuintileError):
        return [f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]
    if isinstance(error, TimeoutError):
        text = str(error) or "It took too long."
        return [f"error: {text}", "hint: It goes on; wait longer with --timeout, or look again."]
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"]
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return [
            f"error: {place}{error.strerror or error}",
            "hint: Check the path, its permissions and the room on its disk.",
        ]
    return [
        f"error: {type(error).__name__}: {error}",
        "hint: This is a mistake in Quintile; run it with --debug and report what it says.",
    ]


def report(error: BaseException) -> int:
    """Write an error to stderr; return the exit code."""
    sys.stderr.write("\n".join(lines_of(error)) + "\n")
    return code_of(error)
