"""PostgreSQL for tests: a private server of this machine's programs, or one that is named.

``QUINTILE_TEST_DATABASE``: empty = SQLite files; ``postgres`` = start a server for this session;
``postgresql+psycopg2://...`` = use this one (its user may make databases). Each test gets a
database of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from quintile.testing import waiting

KEY: Final = "QUINTILE_TEST_DATABASE"
START: Final = "postgres"
USER: Final = "quintile"
NOBODY: Final = "nobody"
"""Who runs the server when root runs the tests: PostgreSQL refuses root."""

FAST: Final = ("-F", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class Missing(Exception):
    """The programs of PostgreSQL are not on this machine."""


def wanted() -> str:
    """Return what the environment asks for; empty for SQLite."""
    return os.environ.get(KEY, "")


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Yield the address of the server to use; starts one when the environment says so.

    Raises:
        Missing: There are no programs to start one from.
    """
    if wanted() != START:
        yield wanted()
        return
    programs = find_programs()
    with tempfile.TemporaryDirectory(prefix="quintile-postgres-") as root:
        data = pathlib.Path(root) / "data"
        owner = _owner(pathlib.Path(root))
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", *_locale(programs)],
            check=True,
            stdout=subprocess.DEVNULL,
            user=owner,
            cwd=root,
        )
        port = _free_port()
        log = (pathlib.Path(root) / "log").open("wb")
        place = ("-D", str(data), "-k", root, "-h", "127.0.0.1", "-p", str(port))
        server = subprocess.Popen(
            [programs / "postgres", *place, *FAST, "-c", "max_connections=400"],
            stdout=log,
            stderr=log,
            user=owner,
            cwd=root,
        )
        url = f"postgresql+psycopg2://{USER}@127.0.0.1:{port}/postgres"
        try:
            waiting.until(lambda: _answers(url))
            yield url
        finally:
            # Fast shutdown: connections that a test left open are cut.
            server.send_signal(2)
            server.wait(30)
            log.close()


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Yield the address of an empty database that lives as long as the block."""
    name = f"t_{secrets.token_hex(8)}"
    with _administering(server_url) as run:
        run(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with _administering(server_url) as run:
            run(f"DROP DATABASE {name} WITH (FORCE)")


@functools.cache
def find_programs() -> pathlib.Path:
    """Return the folder of ``initdb`` and ``postgres``.

    Raises:
        Missing: There is none.
    """
    found = shutil.which("initdb")
    places = [pathlib.Path(found).resolve().parent] if found else []
    places += sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "postgres").exists():
            return place
    raise Missing(
        "PostgreSQL's initdb and postgres are not on this machine: install them (Debian: "
        f"postgresql), or name a server: {KEY}=postgresql+psycopg2://USER:PASSWORD@HOST/NAME."
    )


def _locale(programs: pathlib.Path) -> tuple[str, ...]:
    """Return options for an order of words unlike that of bytes, where the build knows one."""
    done = subprocess.run(
        [programs / "initdb", "--help"], check=True, capture_output=True, text=True
    )
    if "--icu-locale" not in done.stdout:
        return ("--locale=C", "-E", "UTF8")
    return ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C", "-E", "UTF8")


def _owner(root: pathlib.Path) -> str | None:
    if os.geteuid() != 0:
        return None
    root.chmod(0o711)
    shutil.chown(root, NOBODY)
    return pwd.getpwnam(NOBODY).pw_name


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with _administering(url) as run:
            run("SELECT 1")
    except sa.exc.OperationalError:
        return False
    return True


@contextlib.contextmanager
def _administering(url: str) -> Iterator[_Run]:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            yield _Run(connection)
    finally:
        engine.dispose()


class _Run:
    """Runs statements outside of transactions."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def __call__(self, statement: str) -> None:
        self._connection.execute(sa.text(statement))
