"""Committed checkpoints: what is stored of them, and which one a restart begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import orm

from quintile import ports
from quintile.core import errors, messages, names
from quintile_api.runs import tables

MANIFEST = "manifest.json"
_NEWEST_FIRST = (
    tables.CheckpointRow.attempt.desc(),
    tables.CheckpointRow.generation.desc(),
    tables.CheckpointRow.step.desc(),
)


def committed(session: orm.Session, uid: str) -> Sequence[tables.CheckpointRow]:
    """Return all committed checkpoints of a trial, newest first."""
    query = sa.select(tables.CheckpointRow).where(tables.CheckpointRow.trial_uid == uid)
    return session.scalars(query.order_by(*_NEWEST_FIRST)).all()


def newest(session: orm.Session, uid: str) -> tables.CheckpointRow | None:
    """Return the newest committed checkpoint of a trial, of any attempt and generation."""
    query = sa.select(tables.CheckpointRow).where(tables.CheckpointRow.trial_uid == uid)
    return session.scalar(query.order_by(*_NEWEST_FIRST).limit(1))


def forget(session: orm.Session, uid: str, keys: Sequence[str]) -> None:
    """Delete the rows of checkpoints by the keys of their manifests."""
    row = tables.CheckpointRow
    session.execute(sa.delete(row).where(row.trial_uid == uid, row.manifest_key.in_(keys)))


def problems(
    objects: ports.ObjectStore, prefix: str, files: Sequence[messages.FileInfo]
) -> Iterator[str]:
    """Yield what is wrong with the stored files of a checkpoint; nothing when it is complete."""
    stored = {info.key: info.size for info in objects.list(f"{prefix}/")}
    if f"{prefix}/{MANIFEST}" not in stored:
        yield f"{MANIFEST} is missing"
    for file in files:
        size = stored.get(f"{prefix}/{file.path}")
        if size is None:
            yield f"{file.path} is missing"
        elif size != file.size:
            yield f"{file.path} has {size} bytes instead of {file.size}"


def verify_commit(
    objects: ports.ObjectStore, trial_uid: str, message: messages.CheckpointCommit
) -> None:
    """Check a commit against the store, before its transaction.

    Raises:
        InvalidSpec: Prefix or manifest do not fit the message, or files are missing.
    """
    manifest = message.manifest
    prefix = names.checkpoint_prefix(
        trial_uid, attempt=message.attempt, generation=message.generation, step=manifest.step
    )
    same = (manifest.trial_uid, manifest.attempt, manifest.generation) == (
        trial_uid,
        message.attempt,
        message.generation,
    )
    if message.prefix != prefix or not same:
        raise errors.InvalidSpec(
            f"The checkpoint under {message.prefix!r} is not one of this generation.",
            hint=f"Use the prefix {prefix!r} that checkpoints/urls gave.",
            field="prefix",
        )
    wrong = list(problems(objects, prefix, manifest.files))
    if wrong:
        raise errors.InvalidSpec(
            f"The checkpoint of step {manifest.step} is incomplete: {'; '.join(wrong[:5])}.",
            hint="Put every file and the manifest, then commit again.",
            field="manifest.files",
        )
    stored = messages.CheckpointManifest.model_validate_json(objects.get(f"{prefix}/{MANIFEST}"))
    if stored != manifest:
        raise errors.InvalidSpec(
            f"The stored {MANIFEST} differs from the one in the commit.",
            hint="Commit exactly what was stored.",
            field="manifest",
        )


def store(
    session: orm.Session, message: messages.CheckpointCommit, *, uid: str, now_s: float
) -> tables.CheckpointRow:
    """Insert a verified commit. The same commit again is a no-op.

    Raises:
        Conflict: Another manifest is committed for this step of this generation.
    """
    key = (uid, message.attempt, message.generation, message.manifest.step)
    body = message.manifest.model_dump(mode="json")
    row = session.get(tables.CheckpointRow, key)
    if row is None:
        row = tables.CheckpointRow(
            trial_uid=uid,
            attempt=message.attempt,
            generation=message.generation,
            step=message.manifest.step,
            manifest_key=f"{message.prefix}/{MANIFEST}",
            manifest=body,
            created_s=now_s,
        )
        session.add(row)
    elif row.manifest != body:
        raise errors.Conflict(
            f"Step {row.step} of generation {row.generation} is committed with other contents."
        )
    return row


def resume_point(
    objects: ports.ObjectStore, rows: Sequence[tables.CheckpointRow], *, ttl_s: int
) -> messages.ResumePoint | None:
    """Return the newest of ``rows`` (newest first) whose files are all there, with read URLs."""
    for row in rows:
        manifest = messages.CheckpointManifest.model_validate(row.manifest)
        prefix = row.manifest_key.removesuffix(f"/{MANIFEST}")
        if next(problems(objects, prefix, manifest.files), None) is None:
            return messages.ResumePoint(
                key=row.manifest_key,
                step=row.step,
                manifest_url=objects.url(row.manifest_key, method="GET", ttl_s=ttl_s),
                urls={
                    file.path: objects.url(f"{prefix}/{file.path}", method="GET", ttl_s=ttl_s)
                    for file in manifest.files
                },
            )
    return None
