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
    choice = hvd.install()
    if choice is hvd.Choice.REAL and os.environ.get("HOROVOD_CONTROLLER") == "gloo":
        host = os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"]
        port = int(os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"])
        if env.rank == 0:
            rendezvous.start(host if _is_loopback(host) else "", port)
        rendezvous.await_ready(host, port)
    return choice


def prepare_script(env: worker_env.WorkerEnv) -> None:
    """Make ``import horovod.torch`` work in a script that may never do it.

    In mode mpi torch is not loaded for it, unless Horovod is missing.
    """
    missing = importlib.util.find_spec("horovod") is None
    if env.mode == "horovod" or (env.mode == "mpi" and missing):
        prepare(env)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
