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
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from quintile.testing import waiting

KEY: Final = "QUINTILE_TEST_DATABASE"
START: Final = "postgres"
USER: Final = "quintile"
NOBODY: Final = "nobody"
"""Who runs the server when root runs the tests: PostgreSQL refuses root."""

MEMORY: Final = pathlib.Path("/dev/shm")  # noqa: S108 - a folder of random name is made there
ROOM_BYTES: Final = 2 * 2**30
FAST: Final = ("-F", "-c", "full_page_writes=off")


class Missing(Exception):
    """The programs of PostgreSQL are not on this machine."""


def wanted() -> str:
    """Return what the environment asks for; empty for SQLite."""
    return os.environ.get(KEY, "")


class Server:
    """A private server in a folder of its own; ``url`` stays while it stops and starts.

    Raises:
        Missing: There are no programs to start one from.
    """

    def __init__(self) -> None:
        self._programs = find_programs()
        self._folder = tempfile.TemporaryDirectory(prefix="quintile-postgres-", dir=_memory())
        root = self._root = pathlib.Path(self._folder.name)
        self._owner = _owner(root)
        options = ("-D", "data", "-U", USER, "-A", "trust", "-N", *_locale(self._programs))
        subprocess.run(
            [self._programs / "initdb", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._owner,
            cwd=root,
        )
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Address of a database of it."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it; returns when it answers."""
        place = ("-D", "data", "-k", str(self._root), "-h", "127.0.0.1", "-p", str(self._port))
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *place, *FAST, "-c", "max_connections=400"],
                stdout=log,
                stderr=log,
                user=self._owner,
                cwd=self._root,
            )
        waiting.until(lambda: _answers(self.url))

    def stop(self) -> None:
        """End it at once, with every connection. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """End it and forget its files."""
        self.stop()
        self._folder.cleanup()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Yield the address of the server to use; starts one when the environment says so.

    Raises:
        Missing: There are no programs to start one from.
    """
    if wanted() != START:
        yield wanted()
        return
    server = Server()
    try:
        yield server.url
    finally:
        server.close()


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


def _memory() -> str | None:
    """Return a folder in memory with room for a server's files; None: the usual place."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        return None
    return str(MEMORY)


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
        with administering(url) as run:
            run("SELECT 1")
    except sa.exc.OperationalError:
        return False
    return True


@contextlib.contextmanager
def administering(url: str) -> Iterator[_Run]:
    """Yield a function that runs statements outside of transactions, as CREATE DATABASE needs."""
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

    def __call__(self, statement: str) -> sa.CursorResult[Any]:
        return self._connection.execute(sa.text(statement))
