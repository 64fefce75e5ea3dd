"""REST messages about datasets, versions, splits, items and imports (snake_case).

Storage of a version (keys under ``names.version_prefix``; all objects immutable):

- ``shards/00000.tar`` ...: uncompressed tar, members ``<item_id>.<ext>`` (WebDataset-readable).
- ``manifest.parquet``: item_id str, name str, shard int32, offset int64 (of the file's bytes
  inside the tar), size int64, sha256 str, width int32, height int32, format str; sorted by item_id.
- ``labels.parquet``: item_id str, class_id int32, label str, source str (human, grid, duplicate,
  propagated, auto, auto-uncertified, imported), annotation_id str, round int32, model_sha256 str,
  score float64, certificate_id str, schema_version int32, time str; sorted by item_id; only
  labelled items have a row.
- ``splits/<name>.parquet``: item_id str, part str, truth int32 (class id, -1 = none).

item_id = first 16 hex digits of sha256(name NUL sha256 of the stored bytes). A version that adds
labels reuses its parent's shards and manifest by key.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from quintile.core.meta import Message, Name

LabelSource = Literal[
    "human", "grid", "duplicate", "propagated", "auto", "auto-uncertified", "imported"
]
TRUE_SOURCES: Final = frozenset({"human", "imported"})
"""Sources whose labels may stand for the truth of a split: a person's, or what came in."""

Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Mark = Annotated[str, StringConstraints(max_length=128)]


class DatasetCreate(Message):
    """Body of POST datasets."""

    name: Name
    description: str = Field(default="", max_length=1024)


class DatasetView(Message):
    """One dataset with its newest version (0 = none yet)."""

    name: str
    uid: str
    description: str
    newest_version: int
    items: int
    created: str


class ClassInfo(Message):
    """A class: stable id, name."""

    id: int
    name: str


class VersionView(Message):
    """One immutable version."""

    dataset: str
    dataset_uid: str
    version: int
    parent: int | None
    digest: str
    items: int
    labelled: int
    bytes: int
    classes: list[ClassInfo]
    label_sources: dict[str, int]
    manifest_key: str
    manifest_sha256: str
    labels_key: str
    labels_sha256: str
    origin: str
    created: str


class SplitCreate(Message):
    """Body of POST splits: named parts by fraction or count; the rest goes to ``rest``.

    ``truth``: CSV text ``name,label`` that gives true labels (for stratifying and for evaluation);
    truth is kept for the parts listed in ``keep_truth`` only. Without it, these parts keep the
    version's own labels, each of which must be a person's or imported.
    """

    name: Name
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    parts: dict[str, str] = Field(min_length=1, max_length=16)
    rest: str = "train"
    stratified: bool = True
    truth: str = Field(default="", max_length=64 * 1024 * 1024)
    keep_truth: list[str] = Field(default_factory=list)


class SplitView(Message):
    """One split of a version: counts by part; which parts carry true labels."""

    name: str
    seed: int
    stratified: bool
    parts: dict[str, int]
    truth_parts: list[str]
    key: str


class ItemView(Message):
    """One item; ``label`` is None while unlabelled."""

    item_id: str
    name: str
    width: int
    height: int
    size: int
    sha256: str
    format: str
    label: str | None = None
    source: str | None = None
    score: float | None = None


class RejectedFile(Message):
    """A file or row that an import left out."""

    name: str
    row: int | None = None
    reason: str
    message: str


class ImportCreate(Message):
    """Body of POST imports: an uploaded source becomes a new version.

    ``kind``: zip (folders are class names when ``labels_from`` is folders), csv (zip of images
    plus ``manifest`` CSV text with columns file[,label]), numpy (npz with ``images`` [N,H,W] or
    [N,H,W,3] uint8 and optional ``labels`` [N] int or str, ``names`` [N]; or one npy, the images).
    A local folder is zipped by SDK and CLI while it is sent.

    ``labels_from``: auto takes the labels that csv and numpy bring along; none takes no labels;
    manifest insists on the label column. ``classes`` fixes names and order of the classes; class
    ids are places in it. Without it the classes are those that occur, in natural order.
    """

    upload_id: str
    kind: Literal["zip", "csv", "numpy"]
    labels_from: Literal["auto", "none", "folders", "manifest"] = "auto"
    manifest: str = Field(default="", max_length=64 * 1024 * 1024)
    classes: list[str] = Field(default_factory=list, max_length=1000)


class ImportView(Message):
    """Progress and result of an import; ``version`` is set when it succeeded."""

    id: str
    dataset: str
    state: Literal["queued", "running", "succeeded", "failed"]
    done: int
    total: int
    imported: int
    rejected: list[RejectedFile]
    rejected_total: int
    version: int | None
    problem: str


class UploadCreate(Message):
    """Body of POST uploads: how many bytes come, and their digest when it is known."""

    size: Annotated[int, Field(ge=1)]
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")


class UploadView(Message):
    """A resumable upload: the next byte offset that the server expects."""

    id: str
    offset: int
    size: int
    complete: bool


class LabelRow(Message):
    """One row of a label table, in an NDJSON body that makes a new version."""

    item_id: str
    label: str
    source: LabelSource
    annotation_id: Mark = ""
    round: Count = 0
    model_sha256: Mark = ""
    score: Annotated[float, Field(ge=0, le=1)] = 1.0
    certificate_id: Mark = ""
    schema_version: Count = 1
    time: Mark = ""


class VersionCreate(Message):
    """First line of the NDJSON body of POST versions; ``idempotency_key`` as job uid + version."""

    parent: Number
    version: Number | None = None
    classes: list[str]
    origin: str = Field(default="", max_length=1024)
    idempotency_key: str = Field(min_length=1, max_length=128)


class WhyStep(Message):
    """What one version says about an item; the fields of a label row, None while unlabelled."""

    version: int
    origin: str
    created: str
    label: LabelRow | None


class WhyView(Message):
    """Where an item and its label came from: newest version first, the import last."""

    item: ItemView
    steps: list[WhyStep]
