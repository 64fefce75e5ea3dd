"""The program of a labeling round: one process that turns a manifest into a result. No torch.

``compute`` is pure (arrays and manifest in, outcome out); ``worker`` fetches and hands in.
"""

from __future__ import annotations

from quintile_trainer import worker_env


def run(env: worker_env.WorkerEnv) -> None:
    """Do the round that the program of this rank names.

    Raises:
        BadInput: The round's input cannot be used; the message says why.
        Broken: The platform refused, or stayed away for too long.
    """
    # Loaded here: tests and benchmarks use ``compute`` without any of this.
    from quintile_trainer.rounds.worker import run as run_worker

    run_worker(env)
