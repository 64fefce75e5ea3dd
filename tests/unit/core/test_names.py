"""Names and keys: short enough, tied to their owner, and without collisions."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import names

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
LABEL = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
KEY = re.compile(r"^[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*$")
UIDS = st.uuids().map(str)


@given(UIDS)
def test_a_suffix_is_six_characters_of_base32(uid: str) -> None:
    assert re.fullmatch(r"[a-z2-7]{6}", names.suffix(uid))


def test_names_never_change() -> None:
    """Children of stored resources are found by these names: they are a format."""
    assert names.suffix(UID) == "zajod3"
    assert names.trial("digits", uid=UID, number=0) == "digits-t0-zajod3"
    assert names.round_experiment("parts", uid=UID, number=7) == "parts-r7-zajod3"
    assert names.replica("digits-t0-x", attempt=2, role="worker", index=1) == (
        "digits-t0-x-a2-worker-1"
    )


def test_owners_of_one_name_in_turn_share_no_children() -> None:
    made = {names.trial("digits", uid=str(uuid.UUID(int=n)), number=0) for n in range(1000)}
    assert len(made) == 1000


@given(UIDS, st.integers(1, 9), st.integers(0, 99))
def test_the_longest_replica_is_a_host_name(uid: str, attempt: int, index: int) -> None:
    longest = "a" * names.EXPERIMENT_NAME_LIMIT
    trial = names.trial(longest, uid=uid, number=0)
    assert LABEL.match(names.replica(trial, attempt=attempt, role="worker", index=index))


@given(UIDS, st.integers(0, 100))
def test_a_round_is_an_experiment_of_a_good_name(uid: str, number: int) -> None:
    made = names.round_experiment("a" * names.LABELING_JOB_NAME_LIMIT, uid=uid, number=number)
    assert len(made) <= names.EXPERIMENT_NAME_LIMIT
    assert LABEL.match(names.trial(made, uid=uid, number=0))


@pytest.mark.parametrize(
    "key",
    [
        names.bundle_key("0" * 64),
        names.upload_key("u1"),
        names.upload_piece_key("u1", start=5, token="t"),
        names.version_prefix(UID, 3),
        names.shard_key(names.version_prefix(UID, 3), 12),
        names.manifest_key(names.version_prefix(UID, 3)),
        names.labels_key(names.version_prefix(UID, 3)),
        names.split_key(names.version_prefix(UID, 3), "default"),
        names.thumbnail_key(UID, "item-1", size=256),
        names.checkpoint_root(UID, attempt=1, generation=2),
        names.checkpoint_prefix(UID, attempt=1, generation=2, step=500),
        names.artifact_prefix(UID),
        names.round_prefix(UID, 4),
    ],
)
def test_object_keys_fit_the_alphabet_of_the_store(key: str) -> None:
    assert KEY.match(key)
    assert len(key) <= 512


def test_keys_of_one_thing_lie_below_its_prefix() -> None:
    root = names.checkpoint_root(UID, attempt=1, generation=2)
    assert names.checkpoint_prefix(UID, attempt=1, generation=2, step=5).startswith(f"{root}/")
    version = names.version_prefix(UID, 1)
    assert names.shard_key(version, 0).startswith(f"{version}/")
    assert version.startswith(f"{names.dataset_prefix(UID)}/")
    piece = names.upload_piece_key("u1", start=0, token="t")
    assert piece.startswith(f"{names.upload_key('u1')}/")


def test_pieces_of_an_upload_sort_by_their_place() -> None:
    starts = [0, 9, 10, 1_000_000, 99_999_999]
    keys = [names.upload_piece_key("u", start=start, token="t") for start in starts]
    assert keys == sorted(keys)
