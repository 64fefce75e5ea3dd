"""The Parquet tables of dataset versions: manifest, labels, split. Bytes in, bytes out.

Written by the API, read by the API and by trainers; the columns are those of the docstring of
``quintile.core.datasets``. Equal rows give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from quintile.core import errors

ROW_GROUP_ROWS: Final = 65_536

Ids = npt.NDArray[np.str_]
Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]

MANIFEST_SCHEMA: Final = pa.schema(
    [
        ("item_id", pa.string()),
        ("name", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
    ]
)
LABELS_SCHEMA: Final = pa.schema(
    [
        ("item_id", pa.string()),
        ("class_id", pa.int32()),
        ("label", pa.string()),
        ("source", pa.string()),
        ("annotation_id", pa.string()),
        ("round", pa.int32()),
        ("model_sha256", pa.string()),
        ("score", pa.float64()),
        ("certificate_id", pa.string()),
        ("schema_version", pa.int32()),
        ("time", pa.string()),
    ]
)
SPLIT_SCHEMA: Final = pa.schema(
    [("item_id", pa.string()), ("part", pa.string()), ("truth", pa.int32())]
)


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a manifest: ``offset`` counts the bytes before the image inside its shard."""

    item_id: str
    name: str
    shard: int
    offset: int
    size: int
    sha256: str
    width: int
    height: int
    format: str


@dataclass(frozen=True, slots=True)
class Label:
    """One row of a label table; see ``quintile.core.datasets`` for the columns."""

    item_id: str
    class_id: int
    label: str
    source: str
    annotation_id: str = ""
    round: int = 0
    model_sha256: str = ""
    score: float = 1.0
    certificate_id: str = ""
    schema_version: int = 1
    time: str = ""


@dataclass(frozen=True)
class Table:
    """Parquet bytes with their SHA-256, ready to put."""

    data: bytes
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A manifest in memory, N rows sorted by item id.

    Attributes:
        item_ids: [N] ``<U16``.
        shards: [N] index of the shard. offsets, sizes: [N] bytes.
        widths, heights: [N] pixels, upright (EXIF orientation applied; the stored bytes are not
            turned).
        table: All columns as Arrow, for texts: names, sha256, format.
    """

    item_ids: Ids
    shards: Int32s
    offsets: Ints
    sizes: Ints
    widths: Int32s
    heights: Int32s
    table: Any

    def __len__(self) -> int:
        return len(self.item_ids)

    def rows_of(self, item_ids: Sequence[str] | Ids) -> Ints:
        """Return the row [M] of each item id, -1 where there is none."""
        return rows_in(self.item_ids, item_ids)

    def item(self, row: int) -> Item:
        """Return one row."""
        return self.items([row])[0]

    def items(self, rows: Sequence[int] | Ints) -> list[Item]:
        """Return the named rows, in the given order."""
        taken = self.table.take(pa.array(rows, pa.int64())).to_pylist()
        return [Item(**row) for row in taken]


@dataclass(frozen=True)
class Labels:
    """A label table in memory, L rows sorted by item id.

    Attributes:
        item_ids: [L] ``<U16``; only labelled items have a row.
        class_ids: [L].
        sources: [L] texts (human, auto, ...).
        scores: [L] float64.
        table: All columns as Arrow.
    """

    item_ids: Ids
    class_ids: Int32s
    sources: Ids
    scores: npt.NDArray[np.float64]
    table: Any

    def __len__(self) -> int:
        return len(self.item_ids)

    def labels(self, rows: Sequence[int] | Ints) -> list[Label]:
        """Return the named rows, in the given order."""
        taken = self.table.take(pa.array(rows, pa.int64())).to_pylist()
        return [Label(**row) for row in taken]


@dataclass(frozen=True)
class Split:
    """A split in memory, N rows sorted by item id.

    Attributes:
        item_ids: [N] ``<U16``.
        parts: [N] name of the part.
        truth: [N] class id, -1 = none kept.
    """

    item_ids: Ids
    parts: Ids
    truth: Int32s


def rows_in(sorted_ids: Ids, wanted: Sequence[str] | Ids) -> Ints:
    """Return the position [M] of each wanted id in a sorted array, -1 where it is absent."""
    asked = np.asarray(wanted, dtype="<U16")
    if len(sorted_ids) == 0:
        return np.full(len(asked), -1, dtype=np.int64)
    rows = np.searchsorted(sorted_ids, asked)
    rows = np.minimum(rows, len(sorted_ids) - 1)
    return np.where(sorted_ids[rows] == asked, rows, -1).astype(np.int64)


def manifest_table(items: Sequence[Item]) -> Table:
    """Return the manifest of these items, sorted by item id."""
    return _table(sorted(items, key=lambda item: item.item_id), Item, MANIFEST_SCHEMA)


def labels_table(labels: Sequence[Label]) -> Table:
    """Return the label table of these rows, sorted by item id."""
    return _table(sorted(labels, key=lambda row: row.item_id), Label, LABELS_SCHEMA)


def split_table(item_ids: Sequence[str], parts: Sequence[str], truth: Sequence[int]) -> Table:
    """Return the split table of [N] ids in order, their parts and kept truth (-1 = none)."""
    columns = {"item_id": list(item_ids), "part": list(parts), "truth": list(truth)}
    return _encode(pa.table(columns, schema=SPLIT_SCHEMA))


def read_manifest(data: bytes) -> Manifest:
    """Parse a manifest."""
    table = _decode(data, MANIFEST_SCHEMA)
    return Manifest(
        item_ids=_ids(table),
        shards=_column(table, "shard", np.int32),
        offsets=_column(table, "offset", np.int64),
        sizes=_column(table, "size", np.int64),
        widths=_column(table, "width", np.int32),
        heights=_column(table, "height", np.int32),
        table=table,
    )


def read_labels(data: bytes) -> Labels:
    """Parse a label table."""
    table = _decode(data, LABELS_SCHEMA)
    return Labels(
        item_ids=_ids(table),
        class_ids=_column(table, "class_id", np.int32),
        sources=np.asarray(table.column("source").to_pylist(), dtype=np.str_),
        scores=_column(table, "score", np.float64),
        table=table,
    )


def read_split(data: bytes) -> Split:
    """Parse a split."""
    table = _decode(data, SPLIT_SCHEMA)
    return Split(
        item_ids=_ids(table),
        parts=np.asarray(table.column("part").to_pylist(), dtype=np.str_),
        truth=_column(table, "truth", np.int32),
    )


def _table(rows: Sequence[Item] | Sequence[Label], kind: type[Item | Label], schema: Any) -> Table:
    columns = {column.name: [getattr(row, column.name) for row in rows] for column in fields(kind)}
    return _encode(pa.table(columns, schema=schema))


def _encode(table: Any) -> Table:
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    data = sink.getvalue()
    return Table(data=data, sha256=hashlib.sha256(data).hexdigest())


def _decode(data: bytes, schema: Any) -> Any:
    try:
        table = parquet.read_table(pa.BufferReader(data), use_threads=False)
        return table.select(schema.names).cast(schema).combine_chunks()
    except (pa.ArrowException, KeyError) as error:
        raise errors.InvalidSpec(
            f"A dataset table cannot be read: {error}.",
            hint=f"Expected Parquet with the columns {', '.join(schema.names)}.",
        ) from error


def _ids(table: Any) -> Ids:
    return np.asarray(table.column("item_id").to_pylist(), dtype="<U16")


def _column(table: Any, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.asarray(table.column(name).to_numpy(), dtype=dtype)
