"""All tables of the labeling service. Nobody else reads or writes them.

Times are float seconds since the epoch (UTC). Inside the database a job is known by a small
number (``jobs.id``); outside by its uid. Three kinds of rows: what people did (``annotations``,
``events``: only ever added), projections of it (``settlements``, the tallies of ``jobs``;
``answers.projection`` rebuilds them), and the state of queue and rounds.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from quintile.adapters import outbox, sql

JOB_ID = "jobs.id"


class Base(orm.DeclarativeBase):
    """Metadata of the labeling database."""

    metadata = sa.MetaData(naming_convention=sql.NAMING)
    type_annotation_map = {dict[str, Any]: sa.JSON, float: sa.Double}


OUTBOX = outbox.table(Base.metadata)


def _job_key(*, index: bool = False) -> orm.Mapped[int]:
    return orm.mapped_column(
        sa.ForeignKey(JOB_ID, ondelete="CASCADE"), primary_key=not index, index=index
    )


class Job(Base):
    """One admitted LabelingJob.

    ``stage``: importing, ready, covering, exporting, exported. ``random_size``,
    ``decision_limit``, ``chosen_limit``, ``batch``: the budget in items (``core.cycle.Limits``).
    ``commitment``: hash of the seed of R with ``salt``, which stays secret until the certificate.
    ``collecting``: number of the round that collects answers (-1 = none) and ``batch_left``, the
    items of its batch that are not settled. Tallies: ``decisions`` answers stored, ``spent`` live
    answers (what the budget limits), ``human`` items with a live answer, ``auto`` items whose
    machine label the certificate covers; ``random_settled``, ``chosen_settled``,
    ``others_settled`` (uncovered items): settled items by the way they were asked for.
    ``deleted_s``: when its resource was missed; 0 = somebody deleted it, so that nothing is kept.
    ``problem``: what holds the background work up; it is tried again after ``retry_s``.
    """

    __tablename__ = "jobs"
    __table_args__ = (sa.Index(None, "namespace", "name"),)
    id: orm.Mapped[int] = orm.mapped_column(sql.BigId, primary_key=True, autoincrement=True)
    uid: orm.Mapped[str] = orm.mapped_column(sa.String(64), unique=True)
    namespace: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(63))
    generation: orm.Mapped[int]
    spec: orm.Mapped[dict[str, Any]]
    created_s: orm.Mapped[float]
    deleted_s: orm.Mapped[float | None]
    stage: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    pool_sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    items: orm.Mapped[int]
    random_size: orm.Mapped[int]
    decision_limit: orm.Mapped[int]
    chosen_limit: orm.Mapped[int]
    batch: orm.Mapped[int]
    commitment: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    salt: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    schema_version: orm.Mapped[int]
    collecting: orm.Mapped[int]
    batch_left: orm.Mapped[int]
    decisions: orm.Mapped[int]
    spent: orm.Mapped[int]
    human: orm.Mapped[int]
    auto: orm.Mapped[int]
    random_settled: orm.Mapped[int]
    chosen_settled: orm.Mapped[int]
    others_settled: orm.Mapped[int]
    stop: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    output_version: orm.Mapped[int | None]
    problem: orm.Mapped[str] = orm.mapped_column(sa.Text)
    retry_s: orm.Mapped[float]


class Item(Base):
    """One image of the pool.

    ``ordinal``: place among the sorted item ids; ``random_rank``: place in the committed
    permutation when it belongs to R; ``accepted``: the certificate covers its machine label, which
    counts while people have not settled the item.
    """

    __tablename__ = "items"
    __table_args__ = (
        sa.Index(None, "job_id", "ordinal", unique=True),
        sa.Index(None, "job_id", "random_rank"),
        sa.Index(None, "job_id", "accepted", "item_id"),
    )
    job_id: orm.Mapped[int] = _job_key()
    item_id: orm.Mapped[str] = orm.mapped_column(sa.String(16), primary_key=True)
    ordinal: orm.Mapped[int]
    name: orm.Mapped[str] = orm.mapped_column(sa.Text)
    sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    width: orm.Mapped[int]
    height: orm.Mapped[int]
    random_rank: orm.Mapped[int | None]
    accepted: orm.Mapped[bool]


class Slot(Base):
    """One answer that is wanted for an item.

    ``ordinal``: 0 the first answer, 1 the blind second one, 2 adjudication. ``tier`` and
    ``position`` order the queue. ``batch``: its round waits for it. ``state``: open, leased,
    answered, void. ``revision`` counts the answers of this slot; ``author`` gave the newest one.
    """

    __tablename__ = "slots"
    __table_args__ = (
        sa.UniqueConstraint("job_id", "item_id", "ordinal"),
        sa.Index(None, "job_id", "state", "tier", "position", "ordinal", "id"),
        sa.Index(None, "job_id", "round", "batch"),
    )
    id: orm.Mapped[str] = orm.mapped_column(sa.String(24), primary_key=True)
    job_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(JOB_ID, ondelete="CASCADE"))
    item_id: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    ordinal: orm.Mapped[int]
    purpose: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    tier: orm.Mapped[int]
    position: orm.Mapped[int]
    round: orm.Mapped[int]
    batch: orm.Mapped[bool]
    blind: orm.Mapped[bool]
    why: orm.Mapped[str] = orm.mapped_column(sa.Text)
    state: orm.Mapped[str] = orm.mapped_column(sa.String(8))
    revision: orm.Mapped[int]
    author: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    lease: orm.Mapped[str | None] = orm.mapped_column(sa.String(32))
    holder: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    client: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    expires_s: orm.Mapped[float | None]


class Lease(Base):
    """Every lease that was ever given: proof that a late answer belongs to who sends it."""

    __tablename__ = "leases"
    token: orm.Mapped[str] = orm.mapped_column(sa.String(32), primary_key=True)
    job_id: orm.Mapped[int] = _job_key(index=True)
    slot_id: orm.Mapped[str] = orm.mapped_column(sa.String(24))
    user: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    client: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    expires_s: orm.Mapped[float]


class Annotation(Base):
    """One answer of a person, whole. Never erased; only ``standing`` changes.

    ``standing``: head (counts), past (replaced by its author), extra (another person was faster),
    stale (another revision came between), undone, reopened (the classes changed). ``class_id``:
    -1 without a class.
    """

    __tablename__ = "annotations"
    __table_args__ = (sa.Index(None, "job_id", "item_id"),)
    id: orm.Mapped[str] = orm.mapped_column(sa.String(32), primary_key=True)
    job_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(JOB_ID, ondelete="CASCADE"))
    item_id: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    slot_id: orm.Mapped[str] = orm.mapped_column(sa.String(24))
    ordinal: orm.Mapped[int]
    purpose: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    round: orm.Mapped[int]
    author: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    revision: orm.Mapped[int]
    base_revision: orm.Mapped[int]
    schema_version: orm.Mapped[int]
    verdict: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    class_id: orm.Mapped[int]
    payload: orm.Mapped[dict[str, Any]]
    seconds: orm.Mapped[float]
    blind: orm.Mapped[bool]
    via: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    standing: orm.Mapped[str] = orm.mapped_column(sa.String(8))
    created_s: orm.Mapped[float]


class Event(Base):
    """What happened to an item, in order; append-only. ``before``, ``after``: annotation ids.

    ``kind``: answer, extra, stale, undo, reopen (the classes changed, R is asked again).
    ``group_id`` ties the events of one bulk action.
    """

    __tablename__ = "events"
    __table_args__ = (sa.Index(None, "job_id", "item_id"),)
    seq: orm.Mapped[int] = orm.mapped_column(sql.BigId, primary_key=True, autoincrement=True)
    job_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(JOB_ID, ondelete="CASCADE"))
    group_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    kind: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    actor: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    item_id: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    slot_id: orm.Mapped[str] = orm.mapped_column(sa.String(24))
    before: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    after: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    client_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    created_s: orm.Mapped[float]


class Settlement(Base):
    """What the answers of an item come to; a projection, rebuildable from the events.

    ``rule``: pending (a second answer is missing), adjudicate (answers differ), or settled by
    single, agreed, adjudicated. ``class_id``: -1 when settled without a class.
    """

    __tablename__ = "settlements"
    __table_args__ = (sa.Index(None, "job_id", "rule"),)
    job_id: orm.Mapped[int] = _job_key()
    item_id: orm.Mapped[str] = orm.mapped_column(sa.String(16), primary_key=True)
    rule: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    annotation_id: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    class_id: orm.Mapped[int]
    verdict: orm.Mapped[str] = orm.mapped_column(sa.String(16))


class Receipt(Base):
    """What became of a client's message; equal ``client_id`` gets the same answer."""

    __tablename__ = "receipts"
    job_id: orm.Mapped[int] = _job_key()
    client_id: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    author: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    outcome: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    revision: orm.Mapped[int]


class Round(Base):
    """One round. ``header``: the manifest without its labels, fixed when the round closes.

    ``prefix``, ``random_settled``: settled prefix and settled items of R at that moment;
    ``labels``: rows of ``round_inputs``; ``stored``: the manifest lies in the store; ``ranked``:
    zlib of JSON [ids, reasons]; ``outputs``: what the worker handed in; ``attempt``: the newest
    one that opened the round or handed it in.
    """

    __tablename__ = "rounds"
    job_id: orm.Mapped[int] = _job_key()
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    step: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    state: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    header: orm.Mapped[dict[str, Any]]
    prefix: orm.Mapped[int]
    random_settled: orm.Mapped[int]
    labels: orm.Mapped[int]
    manifest_key: orm.Mapped[str] = orm.mapped_column(sa.String(256))
    manifest_sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    stored: orm.Mapped[bool]
    opened_s: orm.Mapped[float]
    closed_s: orm.Mapped[float | None]
    ingested_s: orm.Mapped[float | None]
    attempt: orm.Mapped[int]
    outputs: orm.Mapped[dict[str, Any]]
    report: orm.Mapped[dict[str, Any]]
    ranked: orm.Mapped[bytes] = orm.mapped_column(sa.LargeBinary)


class RoundInput(Base):
    """One label as it entered a round."""

    __tablename__ = "round_inputs"
    job_id: orm.Mapped[int] = _job_key()
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    item_id: orm.Mapped[str] = orm.mapped_column(sa.String(16), primary_key=True)
    annotation_id: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    class_id: orm.Mapped[int]


class Prediction(Base):
    """Predictions of one round for ``rounds.predictions.CHUNK`` items in a row of ordinals.

    ``data``: packed little-endian records (class_id int32, confidence float32, score float32).
    """

    __tablename__ = "predictions"
    job_id: orm.Mapped[int] = _job_key()
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    chunk: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    data: orm.Mapped[bytes] = orm.mapped_column(sa.LargeBinary)


class Certificate(Base):
    """The certificate that a finalise round gave; ``document`` is the engine's own.

    ``stale``: an item of R was edited after the look. ``outcome`` follows the document until the
    export, which settles it (``engine.certify.settle``).
    """

    __tablename__ = "certificates"
    id: orm.Mapped[str] = orm.mapped_column(sa.String(32), primary_key=True)
    job_id: orm.Mapped[int] = _job_key(index=True)
    number: orm.Mapped[int]
    stale: orm.Mapped[bool]
    outcome: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    document: orm.Mapped[dict[str, Any]]
    created_s: orm.Mapped[float]
