"""The shared base of the API's tables, and the tables of identity and of safe repeats.

Times are float seconds since the epoch (UTC). ``runs.tables`` and ``data.tables`` add theirs to
the same ``Base``; ``migrations.models`` imports all of them.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import outbox, sql


class Base(orm.DeclarativeBase):
    """Metadata of the API's database."""

    metadata = sa.MetaData(naming_convention=sql.NAMING)


OUTBOX = outbox.table(Base.metadata)


class Project(Base):
    """A tenant; its name is the namespace of its resources."""

    __tablename__ = "projects"
    name: orm.Mapped[str] = orm.mapped_column(sa.String(63), primary_key=True)
    created_s: orm.Mapped[float]


class User(Base):
    """A person. ``admin`` acts as admin in every project."""

    __tablename__ = "users"
    id: orm.Mapped[str] = orm.mapped_column(sa.String(32), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(64), unique=True)
    admin: orm.Mapped[bool]
    created_s: orm.Mapped[float]


class Member(Base):
    """The role of a user in a project."""

    __tablename__ = "members"
    project: orm.Mapped[str] = orm.mapped_column(
        sa.ForeignKey("projects.name", ondelete="CASCADE"), primary_key=True
    )
    user_id: orm.Mapped[str] = orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    role: orm.Mapped[str] = orm.mapped_column(sa.String(16))


class LoginToken(Base):
    """A one-time sign-in link; only the SHA-256 of its secret is kept."""

    __tablename__ = "login_tokens"
    digest: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    user_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    expires_s: orm.Mapped[float]


class Session(Base):
    """A signed-in browser; the cookie carries the id and an HMAC."""

    __tablename__ = "sessions"
    id: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    user_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    expires_s: orm.Mapped[float]


class ApiToken(Base):
    """A token for programs; only the SHA-256 of its secret is kept. ``scope`` caps its roles."""

    __tablename__ = "api_tokens"
    id: orm.Mapped[str] = orm.mapped_column(sa.String(16), primary_key=True)
    user_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    digest: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    scope: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    created_s: orm.Mapped[float]
    expires_s: orm.Mapped[float]
    last_used_s: orm.Mapped[float | None]


class AuditRow(Base):
    """One changing request; append-only, each row's digest covers the row before it."""

    __tablename__ = "audit"
    id: orm.Mapped[int] = orm.mapped_column(sql.BigId, primary_key=True, autoincrement=True)
    time_s: orm.Mapped[float]
    actor: orm.Mapped[str] = orm.mapped_column(sa.String(128))
    method: orm.Mapped[str] = orm.mapped_column(sa.String(8))
    path: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    status: orm.Mapped[int]
    trace_id: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    digest: orm.Mapped[str] = orm.mapped_column(sa.String(64))


class Repeat(Base):
    """The answer of a POST that came with an Idempotency-Key; status 0 = still running."""

    __tablename__ = "repeats"
    caller: orm.Mapped[str] = orm.mapped_column(sa.String(128), primary_key=True)
    key: orm.Mapped[str] = orm.mapped_column(sa.String(128), primary_key=True)
    fingerprint: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    status: orm.Mapped[int]
    body: orm.Mapped[str] = orm.mapped_column(sa.Text)
    created_s: orm.Mapped[float]


class Lease(Base):
    """Who may do a job that one replica does for all; ``fence`` rises with every new holder."""

    __tablename__ = "leases"
    name: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    holder: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    fence: orm.Mapped[int]
    expires_s: orm.Mapped[float]
