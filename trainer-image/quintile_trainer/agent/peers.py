"""Where the other replicas are on the network, and by which interface we reach them.

In a cluster replicas have names. A name resolves a moment after its pod has an address, so a
look-up that fails is no error until patience ends. Standard library only.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Iterable

from quintile_trainer.agent import wire

PATIENCE_S = 120.0
PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
SIOCGIFADDR = 0x8915
LOOPBACK = "localhost"


def is_loopback(host: str) -> bool:
    """Return whether an address is reached on its own machine only."""
    return host.startswith("127.") or host == LOOPBACK


def hosts(plan: wire.Json) -> list[str]:
    """Return the names that the ranks of a generation will look up, each once."""
    named = [str(agent["host"]) for agent in plan["agents"]]
    named.append(str(plan.get("master_host") or ""))
    return [host for host in dict.fromkeys(named) if host and not is_loopback(host)]


def await_names(
    wanted: Iterable[str], cancelled: threading.Event, *, patience_s: float = PATIENCE_S
) -> list[str]:
    """Return the names that do not resolve, after patience ended; none when all do."""
    deadline = time.monotonic() + patience_s
    left = list(wanted)
    pause_s = PAUSE_S
    while not cancelled.is_set():
        left = [host for host in left if not _resolves(host)]
        if not left or time.monotonic() >= deadline:
            break
        cancelled.wait(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
    return left


def interface(host: str) -> str:
    """Return the network interface that has an address of ours, empty when none has.

    ``host``: an address, or a name that may not resolve yet: then our own name counts.
    """
    try:
        address = host if _is_address(host) else socket.gethostname()
        found = socket.getaddrinfo(address, None, socket.AF_INET)
    except OSError:
        return ""
    ours = {str(entry[4][0]) for entry in found}
    for _, name in socket.if_nameindex():
        if _address(name) in ours:
            return name
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _address(name: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])
