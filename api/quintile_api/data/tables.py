"""Rows of datasets, versions, splits, uploads and background jobs.

Items have no rows: the Parquet manifest and labels of a version are their only record, read
through ``catalogue`` (one truth for trainers and console; a label table of a million rows is one
object, not a million inserts). Written by ``quintile_api.data`` alone.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile_api import tables

Uid = sa.String(32)
ObjectKey = sa.String(512)
Digest = sa.String(64)


class Dataset(tables.Base):
    """A named line of versions in a project; ``uid`` names its objects."""

    __tablename__ = "datasets"
    __table_args__ = (sa.UniqueConstraint("project", "name"),)
    uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    project: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("projects.name"))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    description: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    created_s: orm.Mapped[float]


class Version(tables.Base):
    """One immutable version; its row appears when all its objects are stored.

    ``shards`` is a list of {key, size, sha256} in order; a version that adds labels names its
    parent's. ``idempotency_key`` is empty for imports.
    """

    __tablename__ = "dataset_versions"
    dataset_uid: orm.Mapped[str] = orm.mapped_column(
        sa.ForeignKey("datasets.uid", ondelete="CASCADE"), primary_key=True
    )
    version: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    parent: orm.Mapped[int | None]
    digest: orm.Mapped[str] = orm.mapped_column(Digest)
    items: orm.Mapped[int]
    labelled: orm.Mapped[int]
    bytes: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    classes: orm.Mapped[list[str]] = orm.mapped_column(sa.JSON)
    label_sources: orm.Mapped[dict[str, int]] = orm.mapped_column(sa.JSON)
    manifest_key: orm.Mapped[str] = orm.mapped_column(ObjectKey)
    manifest_sha256: orm.Mapped[str] = orm.mapped_column(Digest)
    labels_key: orm.Mapped[str] = orm.mapped_column(ObjectKey)
    labels_sha256: orm.Mapped[str] = orm.mapped_column(Digest)
    shards: orm.Mapped[list[dict[str, Any]]] = orm.mapped_column(sa.JSON)
    origin: orm.Mapped[str] = orm.mapped_column(sa.String(1024))
    idempotency_key: orm.Mapped[str] = orm.mapped_column(sa.String(128))
    created_s: orm.Mapped[float]


class Reservation(tables.Base):
    """A version number that ``owner`` (an import, or an idempotency key) is filling."""

    __tablename__ = "version_reservations"
    __table_args__ = (sa.UniqueConstraint("dataset_uid", "owner"),)
    dataset_uid: orm.Mapped[str] = orm.mapped_column(
        sa.ForeignKey("datasets.uid", ondelete="CASCADE"), primary_key=True
    )
    version: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    owner: orm.Mapped[str] = orm.mapped_column(sa.String(160))


class SplitRow(tables.Base):
    """One split of a version; a child version names its parent's object."""

    __tablename__ = "dataset_splits"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["dataset_uid", "version"],
            ["dataset_versions.dataset_uid", "dataset_versions.version"],
            ondelete="CASCADE",
        ),
    )
    dataset_uid: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    version: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(63), primary_key=True)
    seed: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    stratified: orm.Mapped[bool]
    parts: orm.Mapped[dict[str, int]] = orm.mapped_column(sa.JSON)
    truth_parts: orm.Mapped[list[str]] = orm.mapped_column(sa.JSON)
    key: orm.Mapped[str] = orm.mapped_column(ObjectKey)
    sha256: orm.Mapped[str] = orm.mapped_column(Digest)
    created_s: orm.Mapped[float]


class Upload(tables.Base):
    """A source that arrives piece by piece; ``offset`` is the next byte that is expected."""

    __tablename__ = "uploads"
    id: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    project: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("projects.name"))
    size: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    sha256: orm.Mapped[str] = orm.mapped_column(Digest)
    offset: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    complete: orm.Mapped[bool]
    touched_s: orm.Mapped[float] = orm.mapped_column(index=True)


class UploadPiece(tables.Base):
    """One stored piece of an upload."""

    __tablename__ = "upload_pieces"
    upload_id: orm.Mapped[str] = orm.mapped_column(
        sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True
    )
    start: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    size: orm.Mapped[int]
    key: orm.Mapped[str] = orm.mapped_column(ObjectKey)


class Job(tables.Base):
    """One piece of background work.

    A worker holds it until ``lease_s`` and writes only with its ``fence``; when the lease runs
    out, the next worker begins again with a higher fence. ``payload`` is the request,
    ``report`` the progress and result.
    """

    __tablename__ = "jobs"
    id: orm.Mapped[str] = orm.mapped_column(Uid, primary_key=True)
    kind: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    project: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    subject: orm.Mapped[str] = orm.mapped_column(sa.String(64), index=True)
    payload: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON)
    state: orm.Mapped[str] = orm.mapped_column(sa.String(16), index=True)
    report: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON)
    fence: orm.Mapped[int]
    tries: orm.Mapped[int]
    lease_s: orm.Mapped[float]
    created_s: orm.Mapped[float]
    updated_s: orm.Mapped[float]
