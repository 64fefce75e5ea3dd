"""Gets ``horovod.torch`` ready in a rank: the real one with its rendezvous, or the shim."""

from __future__ import annotations

import importlib.util
import ipaddress
import os

from quintile_trainer import hvd, rendezvous, worker_env


def prepare(env: worker_env.WorkerEnv) -> hvd.Choice:
    """Make ``import horovod.torch`` work and return what it gives.

    Raises:
        PeerLost: The rendezvous of this generation does not answer.
    """
    if os.environ.get("HOROVOD_CONTROLLER") != "gloo" or not is_there():
        return hvd.install()
    host = os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"]
    port = int(os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"])
    if env.rank != 0:
        choice = hvd.install()
        if choice is hvd.Choice.REAL:
            rendezvous.await_ready(host, port)
        return choice
    # Listening begins before Horovod and torch load, which takes seconds.
    with rendezvous.listen(host if _is_loopback(host) else "", port) as listening:
        choice = hvd.install()
        if choice is hvd.Choice.REAL:
            rendezvous.start(listening)
    return choice


def is_there() -> bool:
    """Return whether real Horovod is installed; it may still not load."""
    return importlib.util.find_spec("horovod") is not None


def prepare_script(env: worker_env.WorkerEnv) -> None:
    """Make ``import horovod.torch`` work in a script that may never do it.

    In mode mpi torch is not loaded for it, unless Horovod is missing; so there real Horovod keeps
    its own ``hvd.elastic``, and elsewhere its commits are checkpoints.
    """
    if env.mode == "horovod" or (env.mode == "mpi" and not is_there()):
        if prepare(env) is not hvd.Choice.REAL:
            return
        from quintile_trainer import commits

        commits.take_over()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
