"""``quintile up``: the whole platform in one process, on one port, in one folder."""

from __future__ import annotations

import getpass
import json
import logging
import pathlib
import re
import socket
import sys
import time
from dataclasses import dataclass
from typing import IO, Final

from quintile import logs, settings
from quintile.core import errors
from quintile_embedded import home as homes
from quintile_embedded import listening

ADMIN: Final = "admin"
CHATTY: Final = ("alembic", "uvicorn", "httpx", "httpcore")
CLIENT_TOKEN: Final = "this machine"  # noqa: S105 - the name of the token, not its text
_USER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True)
class Start:
    """A home that this process holds, and the socket it listens on."""

    wanted: settings.Settings
    home: homes.Home
    lock: IO[bytes]
    listener: socket.socket
    address: listening.Address
    begun_s: float


def run(home: pathlib.Path | None = None, host: str | None = None, port: int | None = None) -> int:
    """Run an embedded instance until a signal stops it; return the exit code.

    Arguments that are None come from the environment, then from the last start, then from the
    defaults.

    Raises:
        InvalidSpec: The port is in use, the host or home cannot be used, a setting is wrong.
        Conflict: The home belongs to a running instance.
        StoreFull: No room left on the home's disk.
    """
    begun_s = time.monotonic()
    wanted = settings.load(home=home, host=host, port=port)
    _configure_logs(wanted)
    place = homes.open_home(wanted.home)
    with homes.claim(place) as lock:
        listener, address = listening.listen(listening.choose(wanted, place))
        with listener:
            homes.sign(lock, address.url)
            _run(Start(wanted, place, lock, listener, address, begun_s))
    return 0


def _run(start: Start) -> None:
    # Heavy modules load only now: a start that fails above fails at once.
    from quintile.adapters import serving
    from quintile_embedded import instance

    before = listening.read_port(start.home.port)
    homes.write_private(start.home.port, str(start.address.port).encode())
    site = instance.Site(
        start.wanted, start.home, start.address, homes.ensure_keys(start.home), admin_name()
    )
    whole = instance.build(site)
    if before is not None and before != start.address.port:
        whole.recall()

    def on_ready() -> None:
        token = whole.ensure_client_token(_known_token(start.home), name=CLIENT_TOKEN)
        client = {"url": start.address.url, "token": token}
        homes.write_private(start.home.client, json.dumps(client).encode())
        _announce(start, link=whole.login_link())

    service = serving.Service(
        app=whole.app, lifespan=whole.lifespan, on_ready=on_ready, drain=whole.drain
    )
    serving.serve(service, start.listener)


def _configure_logs(wanted: settings.Settings) -> None:
    logs.configure(level=wanted.logs.level, style=wanted.logs.format)
    if wanted.logs.level != "debug":
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def admin_name() -> str:
    """Return the name of the first administrator: who runs this, when that can be a user name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return ADMIN
    return name if _USER_NAME.fullmatch(name) else ADMIN


def _known_token(home: homes.Home) -> str:
    try:
        known = json.loads(home.client.read_bytes())
        return str(known["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _announce(start: Start, *, link: str) -> None:
    taken_s = time.monotonic() - start.begun_s
    lines = [
        f"Quintile is ready after {taken_s:.1f} s.",
        f"  open  {link}",
        "        signs you in once, within 10 minutes; `quintile link` makes a new one",
        f"  home  {start.home.root}",
        "  stop  Ctrl-C; runs save their state and go on at the next start",
    ]
    if not listening.is_loopback(start.address.host):
        lines.append(
            f"  note  listening on {start.address.host}: other machines can reach this instance; "
            "name its host in QUINTILE_API__ALLOWED_HOSTS"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m quintile_embedded``: ``up`` without the command line of Quintile."""
    import argparse

    parser = argparse.ArgumentParser(prog="quintile_embedded", description=__doc__)
    parser.add_argument("--home", type=pathlib.Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    given = parser.parse_args(arguments)
    try:
        return run(given.home, given.host, given.port)
    except errors.QuintileError as error:
        sys.stderr.write(f"quintile: {error}\n")
        return error.exit_code
