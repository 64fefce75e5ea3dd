"""``python -m quintile_trainer.main``: one rank, from its first instruction to its exit code.

Started by the agent. Threads are planned before any numeric library loads; torch loads only for
programs that train.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import traceback

from quintile_trainer import (
    exit_codes,
    failures,
    hyper,
    layout,
    parent_death,
    spool,
    threads,
    worker_env,
)
from quintile_trainer.zygote import newborn


def main() -> int:
    """Run the rank; return its exit code."""
    parent_death.arm(int(os.environ["QUINTILE_AGENT_PID"]))
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    env = worker_env.load()
    os.environ.pop("QUINTILE_TEAM_SECRET", None)
    count = _threads(env)
    threads.apply(count)
    if "torch" in sys.modules:
        # Forked from a zygote: the variables alone come too late.
        newborn.set_threads(count)
    try:
        _run(env, count)
    except SystemExit as leave:
        return _code_of(leave)
    except BaseException as error:  # the boundary of the process: everything becomes a code
        code, reason = failures.classify(error, world_size=env.world_size)
        _explain(error)
        words = {"reason": reason, "message": failures.sentence(error)}
        with contextlib.suppress(OSError):
            spool.write_atomically(env.folder.error(env.rank), json.dumps(words).encode())
        return code
    return exit_codes.COMPLETED


def _threads(env: worker_env.WorkerEnv) -> int:
    if env.program["estimator"].get("labelingRound") or env.role == layout.SERVERS:
        # One thread sums in one order: equal manifests give equal bytes. A server has one anyway.
        return 1
    return threads.plan_threads(
        processors=threads.available(), quota=threads.quota(), ranks_on_host=env.ranks_on_host
    )


def _run(env: worker_env.WorkerEnv, count: int) -> None:
    estimator = env.program["estimator"]
    if env.role == layout.SERVERS:
        from quintile_trainer.ps import program

        program.serve(env)
    elif estimator.get("labelingRound"):
        from quintile_trainer import rounds

        rounds.run(env)
    elif estimator.get("script"):
        from quintile_trainer import script

        script.run(env)
    else:
        # Refused before torch loads: whoever mistyped a name hears of it at once.
        hyper.parse(env.hparams, extra="functions" in estimator)
        from quintile_trainer import training

        training.run(env, threads=count)


def _explain(error: BaseException) -> None:
    """Print what a person needs: our own refusals are one line, all else has its traceback."""
    if isinstance(error, failures.RankFailure) and error.__cause__ is None:
        sys.stderr.write(f"[quintile] {failures.sentence(error)}\n")
        return
    traceback.print_exc()


def _code_of(leave: SystemExit) -> int:
    if leave.code is None:
        return exit_codes.COMPLETED
    if isinstance(leave.code, int):
        return leave.code
    sys.stderr.write(f"{leave.code}\n")
    return exit_codes.USER_ERROR


def leave(code: int) -> None:
    """End the process; after a failure without finalizers, which may wait for peers that left."""
    if code == exit_codes.COMPLETED:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
