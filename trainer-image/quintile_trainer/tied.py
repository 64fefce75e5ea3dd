"""``python -m quintile_trainer.tied PID COMMAND...``: a program whose life is tied to its agent's.

The kernel keeps the death signal over ``exec``. Standard library only.
"""

from __future__ import annotations

import os
import sys

from quintile_trainer import parent_death


def command(words: list[str]) -> list[str]:
    """Return the command that runs ``words`` tied to this process."""
    return [sys.executable, "-P", "-m", "quintile_trainer.tied", str(os.getpid()), *words]


if __name__ == "__main__":
    parent_death.arm(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
