"""The storage format: offsets agree with tarfile, tables come back, equal input = equal bytes."""

from __future__ import annotations

import hashlib
import io
import tarfile

import numpy as np
import pytest

from quintile.adapters import dataset_tables, shards
from quintile.core import errors, names
from quintile.testing import objects

PREFIX = names.version_prefix("d1", 1)


def images(count: int, size: int = 700) -> list[tuple[str, bytes, int, int, str]]:
    rng = np.random.default_rng(0)
    return [
        (f"folder/{i}.png", rng.bytes(size + i % 600), 8 + i, 9, "PNG" if i % 2 else "JPEG")
        for i in range(count)
    ]


def test_offsets_are_those_of_tarfile() -> None:
    store = objects.FakeObjectStore()
    given = images(50)
    written = shards.write_version(store, PREFIX, given, shard_bytes=8_000)
    assert len(written.shards) > 3
    by_name = {name: data for name, data, *_ in given}
    seen = 0
    for index, shard in enumerate(written.shards):
        body = store.get(shard.key)
        assert shard.key == names.shard_key(PREFIX, index)
        assert (shard.size, shard.sha256) == (len(body), hashlib.sha256(body).hexdigest())
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            members = {member.name: member for member in archive.getmembers()}
        for item in written.items:
            if item.shard == index:
                member = members[f"{item.item_id}.{shards.EXTENSIONS[item.format]}"]
                assert (member.offset_data, member.size) == (item.offset, item.size)
                data = body[item.offset : item.offset + item.size]
                assert data == by_name[item.name]
                assert hashlib.sha256(data).hexdigest() == item.sha256
                seen += 1
    assert seen == 50


def test_manifest_and_labels_come_back() -> None:
    store = objects.FakeObjectStore()
    labels = {
        f"folder/{i}.png": dataset_tables.Label(
            "", class_id=i % 3, label=f"c{i % 3}", source="imported"
        )
        for i in range(0, 20, 2)
    }
    written = shards.write_version(store, PREFIX, images(20), labels=labels)
    manifest = dataset_tables.read_manifest(store.get(written.manifest_key))
    table = dataset_tables.read_labels(store.get(written.labels_key))
    assert tuple(manifest.items(range(20))) == written.items
    assert list(manifest.item_ids) == sorted(manifest.item_ids)
    assert manifest.widths.dtype == np.int32
    assert manifest.offsets.dtype == np.int64
    assert list(manifest.rows_of(["0" * 16, written.items[3].item_id])) == [-1, 3]
    assert len(table) == 10
    assert set(table.item_ids) <= set(manifest.item_ids)
    assert table.labels([0])[0].label == f"c{table.class_ids[0]}"


def test_a_split_comes_back() -> None:
    table = dataset_tables.split_table(["a" * 16, "b" * 16], ["test", "train"], [3, -1])
    split = dataset_tables.read_split(table.data)
    assert (list(split.parts), list(split.truth)) == (["test", "train"], [3, -1])


def test_equal_input_gives_equal_bytes() -> None:
    first, second = objects.FakeObjectStore(), objects.FakeObjectStore()
    a = shards.write_version(first, PREFIX, images(9))
    b = shards.write_version(second, PREFIX, images(9))
    assert a == b


def test_the_same_image_twice_is_refused() -> None:
    with pytest.raises(errors.Conflict):
        shards.write_version(objects.FakeObjectStore(), PREFIX, [*images(2), *images(1)])


def test_an_empty_table_can_be_read() -> None:
    assert len(dataset_tables.read_labels(dataset_tables.labels_table([]).data)) == 0
    assert len(dataset_tables.read_manifest(dataset_tables.manifest_table([]).data)) == 0


def test_other_bytes_are_refused_with_the_expected_columns() -> None:
    with pytest.raises(errors.InvalidSpec, match="item_id, part, truth"):
        dataset_tables.read_split(b"not parquet")
