"""Databases of tests: SQLite files, or databases of a PostgreSQL server (see ``postgres``).

A database is named by a path, as if it were a file; a suite runs on both without knowing which.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import pathlib
import shutil

import sqlalchemy as sa

from quintile.testing import postgres


def at(path: pathlib.Path) -> str:
    """Return the address of the database at ``path``; an empty one when there was none."""
    if not postgres.wanted():
        return f"sqlite:///{path}"
    if not _exists(_name(path)):
        _run(f"CREATE DATABASE {_name(path)} TEMPLATE template0")
    return _address(_name(path))


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a database that nobody is connected to."""
    if postgres.wanted():
        _run(f"CREATE DATABASE {_name(target)} TEMPLATE {_name(source)}")
    else:
        shutil.copy(source, target)


def drop(path: pathlib.Path) -> None:
    """Forget a database, with the connections that a test left open. Idempotent."""
    if postgres.wanted():
        _run(f"DROP DATABASE IF EXISTS {_name(path)} WITH (FORCE)")


def contents(path: pathlib.Path) -> bytes:
    """Return all that is stored, in some form that holds every text as it is."""
    if not postgres.wanted():
        return path.read_bytes()
    engine = sa.create_engine(at(path), poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        found = [
            row
            for table in sa.inspect(engine).get_table_names()
            for row in connection.execute(sa.text(f'SELECT t::text FROM "{table}" t'))
        ]
    engine.dispose()
    return repr(found).encode()


@functools.cache
def _server() -> str:
    stack = contextlib.ExitStack()
    url = stack.enter_context(postgres.running())
    atexit.register(stack.close)
    return url


def _address(name: str) -> str:
    return sa.make_url(_server()).set(database=name).render_as_string(hide_password=False)


def _exists(name: str) -> bool:
    with postgres.administering(_server()) as run:
        return bool(run(f"SELECT 1 FROM pg_database WHERE datname = '{name}'").scalar())


def _run(statement: str) -> None:
    with postgres.administering(_server()) as run:
        run(statement)


def _name(path: pathlib.Path) -> str:
    return f"t_{hashlib.sha256(str(path).encode()).hexdigest()[:24]}"
