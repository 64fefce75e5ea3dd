"""Every derived name and object key of the platform; nothing else formats one.

Child names end in six characters of base32(sha256(owner uid)), so that two owners of one name in
turn never share children. Longest hostname: 63 characters.
"""

from __future__ import annotations

import base64
import hashlib

EXPERIMENT_NAME_LIMIT = 40
HOSTNAME_LIMIT = 63
INDEX_ROOM = len("-1023")
# A round experiment adds up to 12 characters (-r100-abcdef) and is an Experiment itself.
LABELING_JOB_NAME_LIMIT = 28


def suffix(uid: str) -> str:
    """Return the six characters that tie a child's name to its owner's uid."""
    digest = hashlib.sha256(uid.encode()).digest()
    return base64.b32encode(digest).decode().lower()[:6]


def trial(experiment: str, *, uid: str, number: int) -> str:
    """Return the name of the ``number``-th trial of an experiment."""
    return f"{experiment}-t{number}-{suffix(uid)}"


def round_experiment(job: str, *, uid: str, number: int) -> str:
    """Return the name of the experiment that computes round ``number`` of a labeling job."""
    return f"{job}-r{number}-{suffix(uid)}"


def replica(trial_name: str, *, attempt: int, role: str, index: int) -> str:
    """Return the name of one replica of an attempt."""
    return f"{trial_name}-a{attempt}-{role}-{index}"


def cluster_child(trial_name: str, *, uid: str, attempt: int | None, part: str) -> str:
    """Return the name of an object of a trial (of one attempt, or all) in the cluster.

    ``part`` tells the objects apart: a role for its Job, whose pods add their index to the name.
    """
    number = "" if attempt is None else f"-a{attempt}"
    ending = f"{number}-{part}-{suffix(uid)}"
    stem = trial_name[: HOSTNAME_LIMIT - INDEX_ROOM - len(ending)].rstrip("-")
    return f"{stem}{ending}"


def bundle_key(sha256: str) -> str:
    """Return where a code bundle lies."""
    return f"bundles/{sha256}"


def upload_key(upload_id: str) -> str:
    """Return the prefix of the pieces of an uploaded source until its import ends."""
    return f"uploads/{upload_id}"


def upload_piece_key(upload_id: str, *, start: int, token: str) -> str:
    """Return where the piece of an upload that begins at byte ``start`` lies."""
    return f"{upload_key(upload_id)}/{start:015d}-{token}"


def dataset_prefix(dataset_uid: str) -> str:
    """Return the key prefix of everything that belongs to one dataset."""
    return f"datasets/{dataset_uid}"


def version_prefix(dataset_uid: str, version: int) -> str:
    """Return the key prefix of everything that belongs to one dataset version."""
    return f"{dataset_prefix(dataset_uid)}/v{version}"


def shard_key(prefix: str, index: int) -> str:
    """Return where tar shard ``index`` of the version with this prefix lies."""
    return f"{prefix}/shards/{index:05d}.tar"


def manifest_key(prefix: str) -> str:
    """Return where the manifest of the version with this prefix lies."""
    return f"{prefix}/manifest.parquet"


def labels_key(prefix: str) -> str:
    """Return where the labels of the version with this prefix lie."""
    return f"{prefix}/labels.parquet"


def split_key(prefix: str, split: str) -> str:
    """Return where a split of the version with this prefix lies."""
    return f"{prefix}/splits/{split}.parquet"


def thumbnail_key(dataset_uid: str, item_id: str, *, size: int) -> str:
    """Return where the cached thumbnail of an item with edges up to ``size`` pixels lies."""
    return f"{dataset_prefix(dataset_uid)}/thumbnails/{item_id}-{size}.webp"


def checkpoint_root(trial_uid: str, *, attempt: int, generation: int) -> str:
    """Return the key prefix of the checkpoints that one generation writes."""
    return f"ckpt/{trial_uid}/{attempt}-{generation}"


def checkpoint_prefix(trial_uid: str, *, attempt: int, generation: int, step: int) -> str:
    """Return the key prefix of one checkpoint."""
    return f"{checkpoint_root(trial_uid, attempt=attempt, generation=generation)}/step-{step}"


def artifact_prefix(trial_uid: str) -> str:
    """Return the key prefix of what a trial publishes (model, event files)."""
    return f"artifacts/{trial_uid}"


def rounds_prefix(job_uid: str) -> str:
    """Return the key prefix of everything that the rounds of a labeling job read and write."""
    return f"rounds/{job_uid}"


def round_prefix(job_uid: str, number: int) -> str:
    """Return the key prefix of one labeling round: manifest, features, predictions."""
    return f"{rounds_prefix(job_uid)}/{number}"


def round_manifest_key(job_uid: str, number: int) -> str:
    """Return where the input manifest of a labeling round lies."""
    return f"{round_prefix(job_uid, number)}/manifest.json"


def round_outputs(job_uid: str, number: int, *, attempt: int) -> str:
    """Return how the keys of everything begin that one attempt hands in for a round."""
    return f"{round_prefix(job_uid, number)}/{attempt}-"


def round_output_key(job_uid: str, number: int, *, attempt: int, token: str, name: str) -> str:
    """Return where an output of a round lies; ``token`` sets one run of an attempt apart."""
    return f"{round_outputs(job_uid, number, attempt=attempt)}{token}/{name}"
