"""Whether a service can work: each part that it needs is asked, and who is away is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Final

from quintile.core import errors

PATIENCE_S: Final = 4.0
"""How long the parts have to answer, all at once; probes of a pod wait a little longer."""

Checks = Mapping[str, Callable[[], None]]
"""By name of a part, what raises one of our errors while it is away."""


def check(checks: Checks) -> None:
    """Ask every part at the same time.

    Raises:
        Unavailable: At least one is away; the message names each and says why.
    """
    pool = futures.ThreadPoolExecutor(max(1, len(checks)), thread_name_prefix="readiness")
    try:
        asked = {name: pool.submit(ask) for name, ask in checks.items()}
        deadline = time.monotonic() + PATIENCE_S
        away = {name: _problem(one, deadline - time.monotonic()) for name, one in asked.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    lines = [f"{name}: {problem}" for name, problem in away.items() if problem]
    if lines:
        raise errors.Unavailable(
            f"Not ready. {' '.join(lines)}", hint="It is asked again.", retry_after_s=2.0
        )


def _problem(asked: futures.Future[None], patience_s: float) -> str:
    try:
        asked.result(max(0.0, patience_s))
    except errors.QuintileError as error:
        return str(error)
    except TimeoutError:
        return f"It did not answer within {PATIENCE_S:.0f} s."
    return ""
