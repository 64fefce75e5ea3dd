"""Which address an instance listens on, and the socket that does."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import pathlib
import random
import socket
from dataclasses import dataclass
from typing import Final

from quintile import settings
from quintile.core import errors
from quintile_embedded import home as homes

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 512
QUIET_PORTS: Final = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: nobody takes ours while it is down."""

TRIES: Final = 32


class PortTaken(errors.InvalidSpec):
    """Another program listens on the port."""


@dataclass(frozen=True)
class Address:
    """Where to listen. ``port`` 0 takes any free one."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Base URL for people on this machine and for agents."""
        host = f"[{self.reachable}]" if ":" in self.reachable else self.reachable
        return f"http://{host}:{self.port}"

    @property
    def reachable(self) -> str:
        """The host by which this machine itself gets here."""
        if self.host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
            return LOOPBACK if self.host != "::" else "::1"
        return self.host


def choose(wanted: settings.Settings, home: homes.Home) -> Address:
    """Return the address to listen on: as asked, else the port of the last start, else ours."""
    port = wanted.port
    if "port" not in wanted.model_fields_set:
        port = read_port(home.port) or port
    return Address(wanted.host, port)


def read_port(path: pathlib.Path) -> int | None:
    """Return the remembered port; None when there is none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() and 0 < int(text) < 65536 else None


def listen(address: Address) -> tuple[socket.socket, Address]:
    """Return a listening socket and the address it got.

    Raises:
        InvalidSpec: The port is taken, or the host is not of this machine.
    """
    if address.port == 0:
        for port in random.sample(QUIET_PORTS, TRIES):
            with contextlib.suppress(PortTaken):
                return _listen(Address(address.host, port))
    return _listen(address)


def _listen(address: Address) -> tuple[socket.socket, Address]:
    try:
        family, kind, protocol, _name, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise errors.InvalidSpec(
            f"The host {address.host!r} cannot be found: {error.strerror or error}.",
            hint="Leave --host out to listen on this machine alone.",
            field="host",
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        # So that the next start can take the port at once; two living listeners stay impossible.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _refused(address, error) from error
    listener.setblocking(False)
    return listener, Address(address.host, listener.getsockname()[1])


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(address: Address, error: Exception) -> errors.InvalidSpec:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return PortTaken(
            f"Port {address.port} of {address.host} is in use by another program.",
            hint="Choose another with --port N, or take any free one with --port 0.",
            field="port",
        )
    if number == errno.EACCES:
        return errors.InvalidSpec(
            f"Port {address.port} may only be opened by the administrator of this machine.",
            hint="Choose one above 1023 with --port N.",
            field="port",
        )
    return errors.InvalidSpec(
        f"Cannot listen on {address.host} port {address.port}: {error}.",
        hint="Leave --host out to listen on this machine alone.",
        field="host",
    )
