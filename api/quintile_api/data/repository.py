"""Datasets, versions and splits in the database; every look-up is by project (no other way in)."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import dataset_tables, shards
from quintile.core import datasets, errors, names
from quintile_api.data import jobs, tables


def stamp(time_s: float) -> str:
    """Return a time as RFC 3339 text."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")


def create_dataset(
    session: orm.Session, project: str, *, name: str, description: str, now_s: float
) -> tables.Dataset:
    """Make an empty dataset.

    Raises:
        Conflict: The name is taken.
    """
    if _dataset(session, project, name) is not None:
        raise errors.Conflict(
            f"There is a dataset {name!r} in project {project!r} already.",
            hint="Choose another name, or import a new version into it.",
            field="name",
        )
    row = tables.Dataset(
        uid=secrets.token_hex(8),
        project=project,
        name=name,
        description=description,
        created_s=now_s,
    )
    session.add(row)
    return row


def find_dataset(session: orm.Session, project: str, name: str) -> tables.Dataset:
    """Return a dataset.

    Raises:
        NotFound: There is none.
    """
    row = _dataset(session, project, name)
    if row is None:
        raise errors.NotFound(
            f"There is no dataset {name!r} in project {project!r}.",
            hint="List the datasets of the project, or create it first.",
        )
    return row


def find_version(session: orm.Session, project: str, name: str, version: int) -> tables.Version:
    """Return a version; number 0 means the newest.

    Raises:
        NotFound: There is no such dataset or version.
    """
    dataset = find_dataset(session, project, name)
    newest = newest_version(session, dataset.uid)
    row = session.get(tables.Version, (dataset.uid, version or newest))
    if row is None:
        has = f"its newest is {newest}" if newest else "it has none yet"
        raise errors.NotFound(
            f"Dataset {name!r} has no version {version}; {has}.",
            hint="Import images first, or name an existing version.",
        )
    return row


def find_split(session: orm.Session, version: tables.Version, name: str) -> tables.SplitRow:
    """Return a split of a version.

    Raises:
        NotFound: There is none; the message lists those that exist.
    """
    row = session.get(tables.SplitRow, (version.dataset_uid, version.version, name))
    if row is None:
        known = ", ".join(one.name for one in splits_of(session, version)) or "none"
        raise errors.NotFound(
            f"Version {version.version} has no split {name!r}; it has: {known}.",
            hint="Make the split first.",
        )
    return row


def splits_of(session: orm.Session, version: tables.Version) -> Sequence[tables.SplitRow]:
    """Return the splits of a version by name."""
    return session.scalars(
        sa.select(tables.SplitRow)
        .where(
            tables.SplitRow.dataset_uid == version.dataset_uid,
            tables.SplitRow.version == version.version,
        )
        .order_by(tables.SplitRow.name)
    ).all()


def newest_version(session: orm.Session, dataset_uid: str) -> int:
    """Return the highest version number, 0 when there is none."""
    number = sa.select(sa.func.max(tables.Version.version)).where(
        tables.Version.dataset_uid == dataset_uid
    )
    return session.scalar(number) or 0


def reserve(session: orm.Session, dataset_uid: str, *, owner: str, wanted: int | None) -> int:
    """Return the version number that ``owner`` may fill; the same one when it asks again.

    Raises:
        Conflict: ``wanted`` is taken.
    """
    mine = session.scalar(
        sa.select(tables.Reservation).where(
            tables.Reservation.dataset_uid == dataset_uid, tables.Reservation.owner == owner
        )
    )
    if mine is not None:
        return mine.version
    taken = sa.union_all(
        sa.select(tables.Version.version).where(tables.Version.dataset_uid == dataset_uid),
        sa.select(tables.Reservation.version).where(tables.Reservation.dataset_uid == dataset_uid),
    ).subquery()
    numbers = set(session.scalars(sa.select(taken.c.version)))
    version = wanted if wanted is not None else max(numbers, default=0) + 1
    if version in numbers:
        raise errors.Conflict(
            f"Version {version} exists already or is being made.",
            hint="Leave the version out to take the next free number.",
            field="version",
        )
    session.add(tables.Reservation(dataset_uid=dataset_uid, version=version, owner=owner))
    return version


def give_up(session: orm.Session, dataset_uid: str, *, owner: str) -> None:
    """Free a reserved number. Idempotent."""
    session.execute(
        sa.delete(tables.Reservation).where(
            tables.Reservation.dataset_uid == dataset_uid, tables.Reservation.owner == owner
        )
    )


def delete_dataset(session: orm.Session, project: str, name: str, *, now_s: float) -> None:
    """Delete a dataset with all versions; its objects follow in the background.

    An import that runs finds its job gone and stops.
    """
    row = find_dataset(session, project, name)
    session.execute(sa.delete(tables.Job).where(tables.Job.subject == row.uid))
    session.execute(sa.delete(tables.Dataset).where(tables.Dataset.uid == row.uid))
    jobs.add(
        session,
        "purge",
        project=project,
        subject=row.uid,
        payload={"prefix": f"{names.dataset_prefix(row.uid)}/"},
        now_s=now_s,
    )


def digest_of(manifest_sha256: str, labels_sha256: str, classes: Sequence[str]) -> str:
    """Return the digest of a version: what it holds, whatever its name and number."""
    text = json.dumps([manifest_sha256, labels_sha256, list(classes)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sources_of(labels: Sequence[dataset_tables.Label]) -> dict[str, int]:
    """Return how many labels came from which source."""
    return dict(sorted(Counter(label.source for label in labels).items()))


def shards_json(written: Sequence[shards.Shard]) -> list[dict[str, str | int]]:
    """Return shards as a version row keeps them."""
    return [{"key": one.key, "size": one.size, "sha256": one.sha256} for one in written]


def dataset_view(session: orm.Session, row: tables.Dataset) -> datasets.DatasetView:
    """Return the wire form of a dataset."""
    newest = newest_version(session, row.uid)
    version = session.get(tables.Version, (row.uid, newest)) if newest else None
    return datasets.DatasetView(
        name=row.name,
        uid=row.uid,
        description=row.description,
        newest_version=newest,
        items=version.items if version else 0,
        created=stamp(row.created_s),
    )


def version_view(row: tables.Version, *, name: str) -> datasets.VersionView:
    """Return the wire form of a version of the dataset ``name``."""
    return datasets.VersionView(
        dataset=name,
        dataset_uid=row.dataset_uid,
        version=row.version,
        parent=row.parent,
        digest=row.digest,
        items=row.items,
        labelled=row.labelled,
        bytes=row.bytes,
        classes=[
            datasets.ClassInfo(id=number, name=text) for number, text in enumerate(row.classes)
        ],
        label_sources=row.label_sources,
        manifest_key=row.manifest_key,
        manifest_sha256=row.manifest_sha256,
        labels_key=row.labels_key,
        labels_sha256=row.labels_sha256,
        origin=row.origin,
        created=stamp(row.created_s),
    )


def split_view(row: tables.SplitRow) -> datasets.SplitView:
    """Return the wire form of a split."""
    return datasets.SplitView(
        name=row.name,
        seed=row.seed,
        stratified=row.stratified,
        parts=row.parts,
        truth_parts=row.truth_parts,
        key=row.key,
    )


def _dataset(session: orm.Session, project: str, name: str) -> tables.Dataset | None:
    return session.scalar(
        sa.select(tables.Dataset).where(
            tables.Dataset.project == project, tables.Dataset.name == name
        )
    )
