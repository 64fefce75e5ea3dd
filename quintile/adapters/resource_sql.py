"""Port ``ResourceStore`` on rows: one row per resource, one counter for all versions.

A watch reads the rows whose version is above its own, so that several changes of one resource may
arrive as one. Deleted resources stay as tombstones, the newest ``TOMBSTONES`` of them. Writers
queue (``Database.serialize``), so that versions become visible in order. Waiting wakes at once for
writes of this process and within ``POLL_S`` for those of another one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from quintile import ports
from quintile.adapters import resource_rules, signals, sql, sql_schema
from quintile.core import conditions, errors, meta, runplan

SCHEMA: Final = 1
POLL_S: Final = 1.0
PAGE: Final = 500
TOMBSTONES: Final = 2_000

METADATA: Final = sa.MetaData(naming_convention=sql.NAMING)
RESOURCES: Final = sa.Table(
    "resources",
    METADATA,
    sa.Column("uid", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("namespace", sa.String(63), nullable=False),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("created_version", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False, unique=True),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index(
        "uq_resources_live",
        "kind",
        "namespace",
        "name",
        unique=True,
        sqlite_where=sa.text("NOT deleted"),
        postgresql_where=sa.text("NOT deleted"),
    ),
)
OWNERS: Final = sa.Table(
    "resource_owners",
    METADATA,
    sa.Column("owner_uid", sa.String(64), primary_key=True),
    sa.Column("uid", sa.String(64), primary_key=True),
)
COUNTER: Final = sa.Table(
    "resource_counter",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("forgotten", sa.BigInteger, nullable=False),
)
"""One row: the newest version, and the newest version whose tombstone is gone."""


class SqlResourceStore:
    """Documents in the tables above. Blocking; thread-safe; several processes may share them.

    Args:
        database: Where the tables lie; they are made when missing.
        clock: Gives creation times.
    """

    def __init__(self, database: sql.Database, *, clock: ports.Clock) -> None:
        self._database = database
        self._clock = clock
        self._signal = signals.Signal()
        sql_schema.ensure(database, METADATA, name="resources", version=SCHEMA)
        with database.write() as session:
            database.serialize(session, "resources")
            if session.scalar(sa.select(sa.func.count()).select_from(COUNTER)) == 0:
                session.execute(COUNTER.insert().values(id=1, version=0, forgotten=0))

    def get(self, key: meta.Key) -> meta.Document:
        """Return a document."""
        with self._database.read() as session:
            found = _stored(session, key)
        if found is None:
            raise errors.NotFound(
                f"There is no {key}.", hint="Check name and project; it may have been deleted."
            )
        return found

    def list(self, kind: str, *, namespace: str | None = None) -> ports.Listing:
        """Return all documents of a kind, sorted by (namespace, name)."""
        columns = RESOURCES.c
        query = sa.select(columns.document).where(columns.kind == kind, sa.not_(columns.deleted))
        if namespace is not None:
            query = query.where(columns.namespace == namespace)
        query = query.order_by(columns.namespace, columns.name)
        with self._database.read() as session:
            # The version is read first: what comes in between is seen again by the watch.
            version = session.scalar(sa.select(COUNTER.c.version))
            items = tuple(session.scalars(query))
        return ports.Listing(items=items, version=str(version))

    def watch(self, kinds: Sequence[str], *, since: str, wait_s: float) -> Iterator[runplan.Change]:
        """Yield changes after ``since`` in order ("" = all there is); end when none came in time.

        Raises:
            Conflict: Deletions since then are forgotten; list again.
        """
        place = _place(since)
        deadline = time.monotonic() + wait_s
        while True:
            version = self._signal.version
            fresh = self._changes(kinds, place)
            if fresh:
                yield from fresh
                place = int(fresh[-1].version)
                deadline = time.monotonic() + wait_s
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._signal.wait(version, timeout_s=min(left, POLL_S))

    def apply(
        self, document: meta.Document, *, manager: str, create_only: bool = False
    ) -> meta.Document:
        """Create the resource or replace its spec, labels, annotations and owners."""
        del manager  # rows know one writer per field only; the cluster's field managers need it
        wanted = resource_rules.without_status(document)
        key = meta.key_of(wanted)
        with self._database.write() as session:
            self._database.serialize(session, "resources")
            before = _stored(session, key)
            if before is None:
                after = self._create(session, key, wanted)
            else:
                version = wanted["metadata"]["resourceVersion"]
                resource_rules.check_replace(
                    before, wanted, version=version, create_only=create_only
                )
                after = self._replace(session, before, wanted)
        if before is None or after != before:
            self._signal.notify()
        return after

    def patch_status(self, key: meta.Key, status: meta.Document, *, uid: str) -> meta.Document:
        """Replace the status."""
        with self._database.write() as session:
            self._database.serialize(session, "resources")
            before = _stored(session, key)
            if before is None or before["metadata"]["uid"] != uid:
                raise errors.NotFound(f"There is no {key} with uid {uid} any more.")
            resource_rules.check_status(before, status.get("phase", "Pending"))
            after = resource_rules.with_status(before, status)
            if after != before:
                after = _update(session, after)
        if after != before:
            self._signal.notify()
        return after

    def delete(self, key: meta.Key, *, uid: str = "") -> None:
        """Delete the resource and everything it owns."""
        with self._database.write() as session:
            self._database.serialize(session, "resources")
            found = _stored(session, key)
            if found is None or (uid and found["metadata"]["uid"] != uid):
                return
            _bury_all(session, found)
            _forget(session)
        self._signal.notify()

    def _changes(self, kinds: Sequence[str], place: int) -> Sequence[runplan.Change]:
        columns = RESOURCES.c
        query = (
            sa.select(columns.document, columns.version, columns.created_version, columns.deleted)
            .where(columns.version > place, columns.kind.in_(kinds))
            .order_by(columns.version)
            .limit(PAGE)
        )
        with self._database.read() as session:
            forgotten = session.scalar(sa.select(COUNTER.c.forgotten)) or 0
            rows = session.execute(query).mappings().all()
        if 0 < place < forgotten:
            raise errors.Conflict(
                f"Changes since version {place} are forgotten.", hint="List again, then watch."
            )
        return [_change(row, place) for row in rows]

    def _create(self, session: orm.Session, key: meta.Key, wanted: meta.Document) -> meta.Document:
        _check_owners(session, key, wanted)
        wanted["metadata"] |= {
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": conditions.timestamp(self._clock.now()),
        }
        version = _next_version(session)
        wanted["metadata"]["resourceVersion"] = str(version)
        session.execute(
            RESOURCES.insert().values(
                uid=wanted["metadata"]["uid"],
                kind=key.kind,
                namespace=key.namespace,
                name=key.name,
                created_version=version,
                version=version,
                deleted=False,
                document=wanted,
            )
        )
        _write_owners(session, wanted)
        return wanted

    def _replace(
        self, session: orm.Session, before: meta.Document, wanted: meta.Document
    ) -> meta.Document:
        held = before["metadata"]
        grown = 0 if before["spec"] == wanted["spec"] else 1
        kept = ("uid", "creationTimestamp", "resourceVersion")
        wanted["metadata"] |= {name: held[name] for name in kept}
        wanted["metadata"]["generation"] = held["generation"] + grown
        if "status" in before:
            wanted["status"] = before["status"]
        if wanted == before:
            return before
        after = _update(session, wanted)
        _write_owners(session, after)
        return after


def _place(since: str) -> int:
    if since and not since.isdigit():
        raise errors.InvalidSpec(
            f"{since!r} is not a version of this store.",
            hint="Pass the version of a list or of a change.",
            field="since",
        )
    return int(since or 0)


def _stored(session: orm.Session, key: meta.Key) -> meta.Document | None:
    columns = RESOURCES.c
    query = sa.select(columns.document).where(
        columns.kind == key.kind,
        columns.namespace == key.namespace,
        columns.name == key.name,
        sa.not_(columns.deleted),
    )
    found: meta.Document | None = session.scalar(query)
    return found


def _next_version(session: orm.Session) -> int:
    query = sa.update(COUNTER).values(version=COUNTER.c.version + 1).returning(COUNTER.c.version)
    return int(session.execute(query).scalar_one())


def _update(session: orm.Session, document: meta.Document) -> meta.Document:
    version = _next_version(session)
    metadata = {**document["metadata"], "resourceVersion": str(version)}
    after = {**document, "metadata": metadata}
    query = sa.update(RESOURCES).where(RESOURCES.c.uid == metadata["uid"])
    session.execute(query.values(version=version, document=after))
    return after


def _bury(session: orm.Session, document: meta.Document) -> None:
    uid = document["metadata"]["uid"]
    session.execute(
        sa.update(RESOURCES)
        .where(RESOURCES.c.uid == uid)
        .values(version=_next_version(session), deleted=True)
    )
    session.execute(sa.delete(OWNERS).where(OWNERS.c.uid == uid))


def _bury_all(session: orm.Session, document: meta.Document) -> None:
    left = {document["metadata"]["uid"]: document}
    while left:
        gone = left.pop(next(iter(left)))
        _bury(session, gone)
        left |= {
            owned["metadata"]["uid"]: owned for owned in _owned(session, gone["metadata"]["uid"])
        }


def _forget(session: orm.Session) -> None:
    columns = RESOURCES.c
    oldest = session.scalar(
        sa.select(columns.version)
        .where(columns.deleted)
        .order_by(columns.version.desc())
        .offset(TOMBSTONES)
        .limit(1)
    )
    if oldest is not None:
        session.execute(sa.delete(RESOURCES).where(columns.deleted, columns.version <= oldest))
        session.execute(sa.update(COUNTER).values(forgotten=oldest))


def _owned(session: orm.Session, owner_uid: str) -> Sequence[meta.Document]:
    query = (
        sa.select(RESOURCES.c.document)
        .join(OWNERS, OWNERS.c.uid == RESOURCES.c.uid)
        .where(OWNERS.c.owner_uid == owner_uid, sa.not_(RESOURCES.c.deleted))
        .order_by(RESOURCES.c.name)
    )
    return list(session.scalars(query))


def _owner_uids(document: meta.Document) -> set[str]:
    return {str(owner["uid"]) for owner in document["metadata"]["ownerReferences"]}


def _check_owners(session: orm.Session, key: meta.Key, document: meta.Document) -> None:
    uids = _owner_uids(document)
    query = sa.select(RESOURCES.c.uid).where(
        RESOURCES.c.uid.in_(sorted(uids)), sa.not_(RESOURCES.c.deleted)
    )
    if uids and uids - set(session.scalars(query)):
        raise errors.Conflict(
            f"{key} cannot be created: its owner was deleted.", hint="Create the owner again."
        )


def _write_owners(session: orm.Session, document: meta.Document) -> None:
    uid = document["metadata"]["uid"]
    session.execute(sa.delete(OWNERS).where(OWNERS.c.uid == uid))
    for owner_uid in sorted(_owner_uids(document)):
        session.execute(OWNERS.insert().values(owner_uid=owner_uid, uid=uid))


def _change(row: sa.RowMapping, place: int) -> runplan.Change:
    kind: Literal["ADDED", "MODIFIED", "DELETED"] = "MODIFIED"
    if row["deleted"]:
        kind = "DELETED"
    elif row["created_version"] > place:
        kind = "ADDED"
    return runplan.Change(type=kind, document=row["document"], version=str(row["version"]))
