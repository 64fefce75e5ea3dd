"""Reads versions: manifest, labels and splits as arrays in memory, newest used kept.

A page of items is a binary search and a slice, with filters a scan of arrays; nothing is read
from the store but once per version. Objects are immutable, so that nothing here goes stale.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pydantic_core

from quintile import ports
from quintile.adapters import dataset_tables
from quintile.core import datasets, errors
from quintile_api.data import tables

CACHE_BYTES: Final = 256 * 1024 * 1024
SCAN_ROWS: Final = 65_536
STREAM_ROWS: Final = 4096

Mask = npt.NDArray[np.bool_]

_OF_ITEM: Final = ("item_id", "name", "width", "height", "size", "sha256", "format")
_OF_LABEL: Final = ("label", "source", "score")


@dataclass(frozen=True)
class Filter:
    """Which items are wanted; None = all. ``source`` "none" means unlabelled."""

    label: str | None = None
    source: str | None = None
    part: str | None = None


@dataclass(frozen=True)
class Index:
    """One version in memory, N items sorted by id.

    Attributes:
        label_rows: [N] row in ``labels``, -1 = unlabelled.
        class_ids: [N] class, -1 = unlabelled.
        classes: Names by class id.
    """

    manifest: dataset_tables.Manifest
    labels: dataset_tables.Labels
    label_rows: dataset_tables.Ints
    class_ids: dataset_tables.Int32s
    classes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Return about how much memory this takes."""
        arrays = (self.manifest.item_ids, self.labels.item_ids, self.labels.sources)
        held = sum(array.nbytes for array in arrays)
        return held + int(self.manifest.table.nbytes) * 2 + int(self.labels.table.nbytes) * 2

    def row_of(self, item_id: str) -> int:
        """Return the row of an item.

        Raises:
            NotFound: No such item.
        """
        row = int(self.manifest.rows_of([item_id])[0])
        if row < 0 or len(item_id) != len(self.manifest.item_ids[row]):
            raise errors.NotFound(f"This version has no item {item_id[:40]!r}.")
        return row

    def views(self, rows: Sequence[int] | dataset_tables.Ints) -> list[datasets.ItemView]:
        """Return the wire form of the items in these rows."""
        return [datasets.ItemView(**fields) for fields in self._fields(np.asarray(rows, np.int64))]

    def lines(self) -> Iterator[bytes]:
        """Yield all items in order of id as lines of JSON (``ItemView``), some thousands at once.

        No models in between: a million items take seconds, not a quarter of a minute.
        """
        for rows in self.windows():
            yield b"".join(pydantic_core.to_json(fields) + b"\n" for fields in self._fields(rows))

    def windows(self) -> Iterator[dataset_tables.Ints]:
        """Yield all rows in order, some thousands at a time."""
        for start in range(0, len(self.manifest), STREAM_ROWS):
            yield np.arange(start, min(start + STREAM_ROWS, len(self.manifest)))

    def columns(
        self, rows: dataset_tables.Ints, *, of_item: Sequence[str], of_label: Sequence[str]
    ) -> list[list[Any]]:
        """Return columns of the items in ``rows``, then of their labels (None = unlabelled)."""
        items = self.manifest.table.select(list(of_item)).take(pa.array(rows, pa.int64()))
        label_rows = self.label_rows[rows]
        places = pa.array(label_rows, pa.int64(), mask=label_rows < 0)
        labels = self.labels.table.select(list(of_label)).take(places)
        return [column.to_pylist() for column in (*items.columns, *labels.columns)]

    def _fields(self, rows: dataset_tables.Ints) -> Iterator[dict[str, Any]]:
        names = (*_OF_ITEM, *_OF_LABEL)
        columns = self.columns(rows, of_item=_OF_ITEM, of_label=_OF_LABEL)
        return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))

    def rows(
        self, wanted: Filter, *, after: str, limit: int, split: dataset_tables.Split | None
    ) -> dataset_tables.Ints:
        """Return up to ``limit`` rows behind item id ``after`` that fit."""
        start = int(np.searchsorted(self.manifest.item_ids, after, side="right"))
        if wanted == Filter():
            return np.arange(start, min(start + limit, len(self.manifest)))
        found: list[dataset_tables.Ints] = []
        count = 0
        for begin in range(start, len(self.manifest), SCAN_ROWS):
            window = slice(begin, min(begin + SCAN_ROWS, len(self.manifest)))
            fitting = np.flatnonzero(self._mask(wanted, window, split)) + begin
            found.append(fitting)
            count += len(fitting)
            if count >= limit:
                break
        return np.concatenate(found)[:limit] if found else np.arange(0)

    def _mask(self, wanted: Filter, window: slice, split: dataset_tables.Split | None) -> Mask:
        class_ids = self.class_ids[window]
        mask = np.ones(len(class_ids), dtype=np.bool_)
        if wanted.label is not None:
            mask &= class_ids == self._class_id(wanted.label)
        if wanted.source == "none":
            mask &= class_ids < 0
        elif wanted.source is not None:
            rows = self.label_rows[window]
            mask &= rows >= 0
            mask[mask] = self.labels.sources[rows[mask]] == wanted.source
        if wanted.part is not None and split is not None:
            mask &= split.parts[window] == wanted.part
        return mask

    def _class_id(self, label: str) -> int:
        if label not in self.classes:
            raise errors.InvalidSpec(
                f"The label {label[:80]!r} is none of the {len(self.classes)} classes of this "
                "version.",
                hint="Filter by one of the version's classes.",
                field="label",
            )
        return self.classes.index(label)


class Catalogue:
    """Loads indexes and splits and keeps those used last, up to some memory; thread-safe."""

    def __init__(self, objects: ports.ObjectStore, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._objects = objects
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._held: collections.OrderedDict[str, tuple[Index | dataset_tables.Split, int]] = (
            collections.OrderedDict()
        )

    def index(self, row: tables.Version) -> Index:
        """Return a version in memory."""
        key = f"{row.dataset_uid}/{row.version}"
        found = self._get(key)
        if found is None:
            with self._loading:
                found = self._get(key) or self._load(key, row)
        assert isinstance(found, Index)
        return found

    def split(self, key: str) -> dataset_tables.Split:
        """Return a split in memory."""
        found = self._get(key)
        if found is None:
            found = dataset_tables.read_split(self._objects.get(key))
            size = found.item_ids.nbytes + found.parts.nbytes + found.truth.nbytes
            self._keep(key, found, size)
        assert isinstance(found, dataset_tables.Split)
        return found

    def _load(self, key: str, row: tables.Version) -> Index:
        manifest = dataset_tables.read_manifest(self._objects.get(row.manifest_key))
        labels = dataset_tables.read_labels(self._objects.get(row.labels_key))
        label_rows = dataset_tables.rows_in(labels.item_ids, manifest.item_ids)
        class_ids = np.full(len(manifest), -1, dtype=np.int32)
        labelled = label_rows >= 0
        class_ids[labelled] = labels.class_ids[label_rows[labelled]]
        index = Index(manifest, labels, label_rows, class_ids, tuple(row.classes))
        self._keep(key, index, index.size_bytes)
        return index

    def _get(self, key: str) -> Index | dataset_tables.Split | None:
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def _keep(self, key: str, found: Index | dataset_tables.Split, size_bytes: int) -> None:
        with self._lock:
            self._held[key] = (found, size_bytes)
            while sum(size for _, size in self._held.values()) > self._cache_bytes:
                if len(self._held) == 1:
                    return
                self._held.popitem(last=False)
