"""SQL engines and sessions for the services that own tables: SQLite and PostgreSQL by URL alone.

Called by ``quintile_api`` and ``quintile_labeling`` (and adapters that keep rows). SQLite runs in
WAL mode with full synchronisation; a write transaction begins with ``BEGIN IMMEDIATE`` behind one
lock per process, so that writers queue instead of meeting "database is locked". Vendor errors
become the ``quintile.core.errors`` family here.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, exc, orm
from sqlalchemy.engine import interfaces

from quintile.core import errors

BUSY_TIMEOUT_S: Final = 10.0
POOL_SIZE: Final = 40
"""Connections kept per process; equals the thread tokens of the server's thread pool."""

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraint names for ``MetaData(naming_convention=NAMING)``, equal on both databases."""

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Type of an auto-incremented primary key (SQLite counts only plain INTEGER keys)."""

_WRITE = "quintile_write"


def create_engine(url: str, *, pool_size: int = POOL_SIZE) -> sa.Engine:
    """Return an engine for ``sqlite:///PATH`` or ``postgresql+psycopg2://...``.

    Args:
        url: Database address, driver named.
        pool_size: Connections at most; a caller beyond that waits up to 10 s.

    Raises:
        InvalidSpec: The database is neither SQLite nor PostgreSQL through psycopg2.
    """
    try:
        address = sa.make_url(url)
    except exc.ArgumentError as error:
        raise errors.InvalidSpec(
            "The database address cannot be read.",
            hint="Write sqlite:///PATH or postgresql+psycopg2://USER:PASSWORD@HOST/NAME.",
        ) from error
    pool: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": BUSY_TIMEOUT_S,
    }
    if address.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_engine(address, pool)
    if address.drivername == "postgresql+psycopg2":
        return sa.create_engine(address, pool_pre_ping=True, **pool)
    raise errors.InvalidSpec(
        f"Databases through {address.drivername!r} are not supported.",
        hint="Write sqlite:///PATH or postgresql+psycopg2://USER:PASSWORD@HOST/NAME.",
    )


def _sqlite_engine(address: sa.URL, pool: dict[str, Any]) -> sa.Engine:
    if not address.database or address.database == ":memory:":
        raise errors.InvalidSpec(
            "An SQLite database in memory cannot be shared by threads.",
            hint="Name a file: sqlite:///PATH.",
        )
    engine = sa.create_engine(
        address,
        poolclass=sa.pool.QueuePool,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        **pool,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: interfaces.DBAPIConnection, _record: object) -> None:
        # The driver must not begin transactions by itself: _begin below says how.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def in_schema(url: str, schema: str) -> str:
    """Return the address with ``schema`` as the only place of unqualified names; it is made.

    Several processes may call it at the same time. An SQLite address is returned as it is.

    Raises:
        Unavailable: The database is away.
        InvalidSpec: As ``create_engine``.
    """
    engine = create_engine(url, pool_size=1)
    if engine.dialect.name != "postgresql":
        return url
    lock = {"key": zlib.crc32(f"schema {schema}".encode())}
    try:
        with translated(), engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), lock)
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    finally:
        engine.dispose()
    address = sa.make_url(url).update_query_dict({"options": f"-csearch_path={schema}"})
    return address.render_as_string(hide_password=False)


class Database:
    """Sessions on one engine; the only way in which services reach their rows.

    A ``write`` block is one transaction: it commits when the block ends and rolls back when the
    block raises. Do not nest write blocks; pass the session on instead.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writers = threading.Lock()
        self._read = orm.sessionmaker(engine, expire_on_commit=False, autoflush=True)
        writing = engine.execution_options(**{_WRITE: True})
        self._write = orm.sessionmaker(writing, expire_on_commit=False, autoflush=True)

    @contextmanager
    def read(self) -> Iterator[orm.Session]:
        """Yield a session for reading; a consistent snapshot on SQLite. Nothing is committed.

        Raises:
            Unavailable: The database is away or busy.
        """
        with translated(), self._read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[orm.Session]:
        """Yield the session of one write transaction.

        Raises:
            Conflict: A unique or foreign key is violated (say so yourself where you know more).
            Unavailable: The database is away or busy.
            StoreFull: No room left; nothing was kept.
        """
        with translated(), self._queued(), self._write() as session, session.begin():
            yield session

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._writers.acquire(timeout=BUSY_TIMEOUT_S):
            raise errors.Unavailable(
                f"The database was busy for {BUSY_TIMEOUT_S:.0f} s.", hint="Try again."
            )
        try:
            yield
        finally:
            self._writers.release()

    def serialize(self, session: orm.Session, key: str) -> None:
        """Let only one transaction with ``key`` go on at a time, until it ends.

        Needed where readers follow an auto-incremented column: on PostgreSQL numbers are given
        before commit, so a reader could skip a row. SQLite has one writer anyway.
        """
        if self.is_sqlite:
            return
        session.execute(
            sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(key.encode())}
        )

    def ping(self) -> None:
        """Check that the database answers.

        Raises:
            Unavailable: It does not.
        """
        with self.read() as session:
            session.execute(sa.text("SELECT 1"))

    def dispose(self) -> None:
        """Close all pooled connections; called when the application stops."""
        self.engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of SQLAlchemy and of the drivers into the Quintile family, chained."""
    try:
        yield
    except exc.IntegrityError as error:
        raise errors.Conflict(
            f"The row exists already or refers to a missing one: {error.orig}.",
            hint="Read the object again; it may have been made or deleted meanwhile.",
        ) from error
    except exc.OperationalError as error:
        text = str(error.orig)
        if "full" in text or "No space left" in text:
            raise errors.StoreFull(
                "The database has no room left; nothing was written.",
                hint="Free disk space, then try again.",
            ) from error
        raise errors.Unavailable(
            f"The database did not answer: {text}.", hint="Try again."
        ) from error
    except exc.TimeoutError as error:
        raise errors.Unavailable(
            "All database connections are in use.", hint="Try again.", retry_after_s=2.0
        ) from error
