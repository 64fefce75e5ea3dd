"""Hosts of a made-up cluster: network namespaces on one bridge, each link held to a rate.

Needs root and the kernel's ``tbf``. A link holds what leaves a host and what comes to it, each by
itself, as in a switched network.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET = 0x40000000
BURST = "16kb"
"""What may leave at once after a pause; small, or short messages would not be held at all."""
LONGEST_WAIT = "400ms"
MTU = 9000
"""Large packets: fewer of them to hold."""


@dataclass(frozen=True)
class Hosts:
    """Namespaces ``<name>0`` .. with one interface each."""

    name: str
    count: int

    def enter(self, rank: int) -> None:
        """Move this process into the namespace of a rank; gloo then meets through its interface."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{self.name}{rank}").open("rb") as space:
            if libc.setns(space.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns to {self.name}{rank} failed")
        os.environ["GLOO_SOCKET_IFNAME"] = f"{self.name}e{rank}"

    def limit(self, rate: str) -> None:
        """Hold every link to a rate, as ``100mbit``."""
        shaper = f"root tbf rate {rate} burst {BURST} latency {LONGEST_WAIT}"
        for rank in range(self.count):
            self._in(rank, f"tc qdisc replace dev {self.name}e{rank} {shaper}")
            _run(f"tc qdisc replace dev {self.name}o{rank} {shaper}")

    def _in(self, rank: int, command: str) -> None:
        _run(f"ip netns exec {self.name}{rank} {command}")


def missing() -> str:
    """Return why there can be no such hosts here, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [name for name in ("ip", "tc") if shutil.which(name) is None]
    return f"needs {' and '.join(lacking)}" if lacking else ""


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """Yield hosts that are gone afterwards."""
    made = Hosts(f"q{os.getpid() % 10000}h", count)
    bridge = f"{made.name}b"
    try:
        _run(f"ip link add {bridge} type bridge")
        _run(f"ip link set {bridge} up")
        for rank in range(count):
            space, inner, outer = f"{made.name}{rank}", f"{made.name}e{rank}", f"{made.name}o{rank}"
            _run(f"ip netns add {space}")
            _run(
                f"ip link add {outer} mtu {MTU} type veth peer name {inner} mtu {MTU} netns {space}"
            )
            _run(f"ip link set {outer} master {bridge} up")
            made._in(rank, f"ip addr add 10.77.0.{rank + 1}/24 dev {inner}")
            made._in(rank, f"ip link set {inner} up")
            made._in(rank, "ip link set lo up")
        yield made
    finally:
        for rank in range(count):
            _run(f"ip netns del {made.name}{rank}", check=False)
        _run(f"ip link del {bridge}", check=False)


def _run(command: str, *, check: bool = True) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise OSError(f"{command}: {done.stderr.strip()}")
