"""``python -m quintile_trainer.agent``: can be asked to leave from its first moment on."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from quintile_trainer import exit_codes


def main() -> int:
    """Run the agent; return its exit code."""
    # The first process of a pod is not even told of a signal that it did not say it handles, and
    # the other modules take a while to load.
    signal.signal(signal.SIGTERM, _leave)
    from quintile_trainer.agent import replica

    return replica.run(os.environ)


def _leave(_number: int, _frame: Any) -> None:
    """End at once: there is no rank yet, and nothing to save."""
    os._exit(exit_codes.YIELDED)


if __name__ == "__main__":
    sys.exit(main())
