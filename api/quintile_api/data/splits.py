"""Makes splits of a version: reads the truth, decides, stores, records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quintile import ports
from quintile.adapters import dataset_tables, sql
from quintile.core import datasets, errors, names
from quintile_api.data import candidates, catalogue, repository, splitting, tables, tables_csv

TRUTH_ERRORS_SHOWN = 3


def create(
    database: sql.Database,
    objects: ports.ObjectStore,
    version: tables.Version,
    index: catalogue.Index,
    request: datasets.SplitCreate,
    *,
    now_s: float,
) -> datasets.SplitView:
    """Make a split.

    Raises:
        Conflict: The name is taken.
        InvalidSpec: Sizes or truth do not fit the version.
    """
    parts, kept = decide(index, request)
    item_ids = [str(item_id) for item_id in index.manifest.item_ids]
    table = dataset_tables.split_table(item_ids, parts, [int(one) for one in kept])
    row = tables.SplitRow(
        dataset_uid=version.dataset_uid,
        version=version.version,
        name=request.name,
        seed=request.seed,
        stratified=request.stratified,
        parts=dict(sorted(Counter(parts).items())),
        truth_parts=sorted(set(request.keep_truth)),
        key=names.split_key(
            names.version_prefix(version.dataset_uid, version.version), request.name
        ),
        sha256=table.sha256,
        created_s=now_s,
    )
    with database.write() as session:
        database.serialize(session, row.key)
        if session.get(tables.SplitRow, (row.dataset_uid, row.version, row.name)) is not None:
            raise errors.Conflict(
                f"Version {row.version} has a split {row.name!r} already; splits are immutable.",
                hint="Choose another name.",
                field="name",
            )
        put_afresh(objects, row.key, table)
        session.add(row)
    return repository.split_view(row)


def decide(
    index: catalogue.Index, request: datasets.SplitCreate
) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Return the part [N] of each item and the true class [N] to keep with it, -1 = none.

    Raises:
        InvalidSpec: Sizes or truth do not fit the version.
    """
    sizes = splitting.part_sizes(request.parts, rest=request.rest, items=len(index.manifest))
    strange = sorted(set(request.keep_truth) - set(sizes))
    if strange:
        raise errors.InvalidSpec(
            f"keep_truth names {strange[0]!r}, which is no part; the parts are {', '.join(sizes)}.",
            field="keep_truth",
        )
    truth = read_truth(request.truth, index) if request.truth else own_truth(index)
    strata = truth if request.truth else index.class_ids
    if not request.stratified:
        strata = np.zeros_like(strata)
    item_ids = [str(item_id) for item_id in index.manifest.item_ids]
    parts = splitting.assign(item_ids, strata, sizes, seed=request.seed)
    return parts, _kept(index, truth, parts, request)


def read_truth(text: str, index: catalogue.Index) -> npt.NDArray[np.int32]:
    """Return the true class [N] of each item, -1 where the text says nothing.

    Raises:
        InvalidSpec: A row names no item or no class; the first few are listed.
    """
    truth = np.full(len(index.manifest), -1, dtype=np.int32)
    if not index.classes:
        raise errors.InvalidSpec(
            "The version has no classes, so that true labels mean nothing.",
            hint="Import again and name the classes.",
            field="truth",
        )
    table = tables_csv.read(text, key="name", field="truth")
    if not table.labelled:
        raise errors.InvalidSpec(
            "The truth has no column 'label'.",
            hint="Begin with a header row: name,label",
            field="truth",
        )
    rows = {name: row for row, name in enumerate(index.manifest.table.column("name").to_pylist())}
    numbers = {name: number for number, name in enumerate(index.classes)}
    problems = [f"row {bad.row}: {bad.message}" for bad in table.rejected]
    for number, name, label in table.rows:
        if name not in rows:
            problems.append(f"row {number}: no item is named {candidates.shown(name)[:80]!r}")
        elif label is None:
            problems.append(f"row {number}: the label of {candidates.shown(name)[:80]!r} is empty")
        elif label not in numbers:
            problems.append(f"row {number}: {candidates.unknown_class(label, index.classes)}")
        else:
            truth[rows[name]] = numbers[label]
    if problems:
        raise errors.InvalidSpec(
            f"The truth has {len(problems)} bad rows: {'; '.join(problems[:TRUTH_ERRORS_SHOWN])}.",
            hint="Correct the rows (name,label) and send all of them again.",
            field="truth",
        )
    return truth


def own_truth(index: catalogue.Index) -> npt.NDArray[np.int32]:
    """Return the class [N] that a person or the import gave each item, -1 for all others."""
    trusted = np.isin(index.labels.sources, sorted(datasets.TRUE_SOURCES))
    held = index.label_rows >= 0
    held[held] = trusted[index.label_rows[held]]
    return np.where(held, index.class_ids, -1).astype(np.int32)


def put_afresh(objects: ports.ObjectStore, key: str, table: dataset_tables.Table) -> None:
    """Store a table whose row does not exist yet, over what an interrupted try left there."""
    try:
        objects.put(key, table.data, sha256=table.sha256)
    except errors.Conflict:
        objects.delete(key)
        objects.put(key, table.data, sha256=table.sha256)


def _kept(
    index: catalogue.Index,
    truth: npt.NDArray[np.int32],
    parts: Sequence[str],
    request: datasets.SplitCreate,
) -> npt.NDArray[np.int32]:
    held = np.isin(np.asarray(parts), request.keep_truth)
    bare = np.flatnonzero(held & (truth < 0))
    if len(bare):
        lacking = (
            "without a true label" if request.truth else "whose label is missing or a machine's"
        )
        raise errors.InvalidSpec(
            f"keep_truth covers {len(bare):,} items {lacking}, first "
            f"{index.manifest.item(int(bare[0])).name!r}.",
            hint="Give the truth (name,label) for every item of the kept parts.",
            field="truth" if request.truth else "keep_truth",
        )
    return np.where(held, truth, -1).astype(np.int32)
