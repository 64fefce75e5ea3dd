"""Makes a version from a label table: the parent's images and splits, other labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import pydantic
import sqlalchemy as sa
from sqlalchemy import orm

from quintile import ports
from quintile.adapters import dataset_tables, problem_json, sql
from quintile.core import datasets, errors, names
from quintile_api.data import candidates, catalogue, repository, splits, tables

ERRORS_SHOWN: Final = 20
FIRST_ROW: Final = 2
"""Row number of the first label line; the header line is row 1."""


def parse_head(line: bytes | bytearray) -> datasets.VersionCreate:
    """Return the first line of the body.

    Raises:
        InvalidSpec: It is not a ``VersionCreate``.
    """
    try:
        head = datasets.VersionCreate.model_validate_json(line)
    except pydantic.ValidationError as error:
        raise problem_json.invalid_fields(
            error.errors(include_url=False), what="The first line (the version)"
        ) from error
    candidates.check_classes(head.classes)
    return head


def parse_rows(
    lines: Iterable[bytes | bytearray], index: catalogue.Index, classes: Sequence[str]
) -> list[dataset_tables.Label]:
    """Return the label rows of a body, each checked against the parent and the classes.

    Raises:
        InvalidFields: Lists the first bad rows with their numbers.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    known = {str(item_id) for item_id in index.manifest.item_ids}
    first: dict[str, int] = {}
    found: list[dataset_tables.Label] = []
    bad: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=FIRST_ROW):
        if not line.strip():
            continue
        try:
            row = datasets.LabelRow.model_validate_json(line)
        except pydantic.ValidationError as error:
            entry = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in entry["loc"]) or "line"
            bad.append((f"row {number}", f"{place}: {entry['msg']}"))
            continue
        if row.item_id not in known:
            bad.append((f"row {number}", f"the parent has no item {row.item_id[:40]!r}"))
        elif row.item_id in first:
            bad.append((f"row {number}", f"row {first[row.item_id]} labels this item already"))
        elif row.label not in numbers:
            bad.append((f"row {number}", candidates.unknown_class(row.label, classes)))
        else:
            first[row.item_id] = number
            found.append(dataset_tables.Label(class_id=numbers[row.label], **row.model_dump()))
    if bad:
        raise problem_json.InvalidFields(
            f"{len(bad):,} label rows are bad; {bad[0][0]}: {bad[0][1]}.",
            fields=bad[:ERRORS_SHOWN],
            hint="Correct the rows and send all of them again; nothing was stored.",
        )
    return found


def create(
    database: sql.Database,
    objects: ports.ObjectStore,
    parent: tables.Version,
    head: datasets.VersionCreate,
    labels: Sequence[dataset_tables.Label],
    *,
    now_s: float,
) -> tuple[tables.Version, bool]:
    """Store a version; return it and whether it is new. Idempotent by key.

    Raises:
        Conflict: The number is taken, or the key came with other content before.
        InvalidSpec: The classes do not begin with the parent's.
    """
    known = list(parent.classes)
    if head.classes[: len(known)] != known:
        raise errors.InvalidSpec(
            f"The classes must begin with those of version {parent.version}, in order: "
            f"{', '.join(known[:12])}.",
            hint="Append new classes at the end; class numbers never change.",
            field="classes",
        )
    table = dataset_tables.labels_table(labels)
    digest = repository.digest_of(parent.manifest_sha256, table.sha256, head.classes)
    uid = parent.dataset_uid
    with database.write() as session:
        database.serialize(session, f"versions/{uid}")
        repeated = _by_key(session, uid, head.idempotency_key)
        if repeated is not None:
            if repeated.digest != digest:
                raise errors.Conflict(
                    f"The idempotency_key {head.idempotency_key!r} made version "
                    f"{repeated.version} from other labels.",
                    hint="Use a new key for new labels.",
                    field="idempotency_key",
                )
            return repeated, False
        owner = f"labels:{head.idempotency_key}"
        version = repository.reserve(session, uid, owner=owner, wanted=head.version)
        repository.give_up(session, uid, owner=owner)
        key = names.labels_key(names.version_prefix(uid, version))
        splits.put_afresh(objects, key, table)
        row = _row_of(parent, head, labels, now_s=now_s)
        row.version, row.digest = version, digest
        row.labels_key, row.labels_sha256 = key, table.sha256
        session.add(row)
        session.flush()
        _copy_splits(session, parent, version)
        return row, True


def _row_of(
    parent: tables.Version,
    head: datasets.VersionCreate,
    labels: Sequence[dataset_tables.Label],
    *,
    now_s: float,
) -> tables.Version:
    return tables.Version(
        dataset_uid=parent.dataset_uid,
        parent=parent.version,
        items=parent.items,
        labelled=len(labels),
        bytes=parent.bytes,
        classes=list(head.classes),
        label_sources=repository.sources_of(labels),
        manifest_key=parent.manifest_key,
        manifest_sha256=parent.manifest_sha256,
        shards=parent.shards,
        origin=head.origin,
        idempotency_key=head.idempotency_key,
        created_s=now_s,
    )


def _copy_splits(session: orm.Session, parent: tables.Version, version: int) -> None:
    for split in repository.splits_of(session, parent):
        session.add(
            tables.SplitRow(
                dataset_uid=split.dataset_uid,
                version=version,
                name=split.name,
                seed=split.seed,
                stratified=split.stratified,
                parts=split.parts,
                truth_parts=split.truth_parts,
                key=split.key,
                sha256=split.sha256,
                created_s=split.created_s,
            )
        )


def _by_key(session: orm.Session, uid: str, key: str) -> tables.Version | None:
    return session.scalar(
        sa.select(tables.Version).where(
            tables.Version.dataset_uid == uid, tables.Version.idempotency_key == key
        )
    )
