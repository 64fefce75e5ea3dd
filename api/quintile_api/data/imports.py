"""Imports: a background job that turns an upload into a new version.

Read -> verify in a limited process -> shards -> manifest and labels -> one transaction that makes
the version appear and ends the job. A job that was interrupted anywhere begins again: its version
number is reserved, what it stored is deleted first, and no row of it is visible before the end.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm

from quintile import ports
from quintile.adapters import dataset_tables, shards, sql
from quintile.core import datasets, errors, names
from quintile_api.data import (
    candidates,
    decoders,
    jobs,
    repository,
    sources,
    tables,
    uploads,
)

KIND: Final = "import"
REJECTED_SHOWN: Final = 1000
REPORT_EVERY_S: Final = 0.5
WINDOW_BYTES: Final = 64 * 1024 * 1024
WINDOW_FILES: Final = 64


class Stopped(Exception):
    """The server stops; the job goes back to the queue."""


@dataclass
class Progress:
    """How far an import is."""

    total: int = 0
    imported: int = 0
    rejected: list[datasets.RejectedFile] = field(default_factory=list)

    def json(self, **result: Any) -> dict[str, Any]:
        """Return the report of the job."""
        return {
            "done": self.imported + len(self.rejected),
            "total": self.total,
            "imported": self.imported,
            "rejected": [one.model_dump() for one in self.rejected[:REJECTED_SHOWN]],
            "rejected_total": len(self.rejected),
            "version": None,
            "problem": "",
            **result,
        }


def create(
    session: orm.Session,
    dataset: tables.Dataset,
    request: datasets.ImportCreate,
    *,
    now_s: float,
) -> tables.Job:
    """Check a request as far as that is quick, and queue it.

    Raises:
        NotFound: No such upload.
        InvalidSpec: The upload is not complete, or the fields do not fit together.
    """
    upload = uploads.find(session, dataset.project, request.upload_id)
    if not upload.complete:
        raise errors.InvalidSpec(
            f"Upload {upload.id} has {upload.offset:,} of {upload.size:,} bytes.",
            hint=f"Send the rest from ?offset={upload.offset} first.",
            field="upload_id",
        )
    candidates.check_classes(request.classes)
    sources.check_fields(request)
    return jobs.add(
        session,
        KIND,
        project=dataset.project,
        subject=dataset.uid,
        payload=request.model_dump(),
        now_s=now_s,
    )


def find(session: orm.Session, dataset: tables.Dataset, import_id: str) -> tables.Job:
    """Return an import of a dataset.

    Raises:
        NotFound: There is none.
    """
    row = session.get(tables.Job, import_id)
    if row is None or row.subject != dataset.uid or row.kind != KIND:
        raise errors.NotFound(f"Dataset {dataset.name!r} has no import {import_id!r}.")
    return row


def view(row: tables.Job, *, name: str) -> datasets.ImportView:
    """Return the wire form of an import into the dataset ``name``."""
    report = {**Progress().json(), **row.report}
    return datasets.ImportView.model_validate(
        {"id": row.id, "dataset": name, "state": row.state, **report}
    )


class Importer:
    """Runs import jobs; one at a time per instance."""

    def __init__(
        self,
        *,
        database: sql.Database,
        objects: ports.ObjectStore,
        clock: ports.Clock,
        queue: jobs.JobQueue,
        decoder_count: int,
    ) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock
        self._queue = queue
        self._pool = decoders.DecoderPool(decoder_count)
        self._threads = decoder_count
        self._uploads = uploads.UploadStore(database, objects, clock)
        self.stopping = threading.Event()

    def close(self) -> None:
        """End the decoders. Idempotent; the next import starts others."""
        self._pool.close()

    def run(self, claim: jobs.Claim) -> None:
        """Do the whole import and end the job, succeeded or failed.

        Raises:
            Fenced: Another worker took the job; nothing of ours became visible.
            Unavailable: Store or database are away; the job may be tried again.
            Stopped: The server stops.
        """
        request = datasets.ImportCreate.model_validate(claim.payload)
        progress = Progress()
        try:
            self._import(claim, request, progress)
        except (errors.InvalidSpec, errors.TooLarge, errors.NotFound, errors.StoreFull) as error:
            self.fail(claim, problem=str(error), progress=progress)
        else:
            self._uploads.forget(request.upload_id)

    def fail(self, claim: jobs.Claim, *, problem: str, progress: Progress | None = None) -> None:
        """End the job as failed and delete what it stored; the upload stays for another try."""
        owner = _owner(claim)
        with self._database.read() as session:
            mine = session.scalar(
                sa.select(tables.Reservation.version).where(
                    tables.Reservation.dataset_uid == claim.subject,
                    tables.Reservation.owner == owner,
                )
            )
        if mine is not None:
            self._delete_below(names.version_prefix(claim.subject, mine))
        with self._database.write() as session:
            repository.give_up(session, claim.subject, owner=owner)
            report = (progress or Progress()).json(problem=problem)
            self._queue.end(session, claim, state="failed", report=report)

    def _import(
        self, claim: jobs.Claim, request: datasets.ImportCreate, progress: Progress
    ) -> None:
        with self._database.write() as session:
            if session.get(tables.Dataset, claim.subject) is None:
                raise errors.NotFound("The dataset of this import was deleted.")
            version = repository.reserve(session, claim.subject, owner=_owner(claim), wanted=None)
        prefix = names.version_prefix(claim.subject, version)
        self._queue.renew(claim)
        self._delete_below(prefix)
        with self._uploads.open(request.upload_id) as source:
            found = sources.find(source, request)
            progress.total = len(found.candidates) + len(found.rejected)
            progress.rejected.extend(found.rejected)
            self._queue.report(claim, progress.json())
            writer = shards.ShardWriter(self._objects, prefix)
            try:
                labels = self._write_all(claim, found, writer, progress)
                stored, items = writer.finish()
            finally:
                writer.abort()
        if not items:
            raise _nothing_good(progress)
        row = self._store_tables(prefix, items, labels, found.classes)
        row.dataset_uid, row.version = claim.subject, version
        row.shards = repository.shards_json(stored)
        row.origin = f"import {claim.id}"
        self._check_stored(row, prefix)
        with self._database.write() as session:
            session.add(row)
            repository.give_up(session, claim.subject, owner=_owner(claim))
            report = progress.json(version=version)
            self._queue.end(session, claim, state="succeeded", report=report)

    def _write_all(
        self,
        claim: jobs.Claim,
        found: candidates.Found,
        writer: shards.ShardWriter,
        progress: Progress,
    ) -> list[dataset_tables.Label]:
        numbers = {name: number for number, name in enumerate(found.classes)}
        labels: list[dataset_tables.Label] = []
        time = repository.stamp(self._clock.now())
        reported_s = self._clock.now()
        for one, data, verdict in self._verified(found.candidates):
            if isinstance(verdict, decoders.Refusal):
                progress.rejected.append(
                    candidates.rejected(one.name, verdict.reason, verdict.message, row=one.row)
                )
            else:
                item = writer.add(
                    one.name,
                    data,
                    width=verdict.width,
                    height=verdict.height,
                    format=verdict.format,
                )
                progress.imported += 1
                if one.label is not None:
                    labels.append(
                        dataset_tables.Label(
                            item_id=item.item_id,
                            class_id=numbers[one.label],
                            label=one.label,
                            source="imported",
                            time=time,
                        )
                    )
            if self.stopping.is_set():
                raise Stopped
            if self._clock.now() - reported_s >= REPORT_EVERY_S:
                self._queue.report(claim, progress.json())
                reported_s = self._clock.now()
        return labels

    def _verified(
        self, found: tuple[candidates.Candidate, ...]
    ) -> Iterator[tuple[candidates.Candidate, bytes, decoders.Picture | decoders.Refusal]]:
        """Yield every candidate in order with its bytes and what the decoder says.

        A bounded window of files is in memory: reading here, decoding in the threads.
        """
        window: collections.deque[
            tuple[candidates.Candidate, bytes, futures.Future[decoders.Picture | decoders.Refusal]]
        ] = collections.deque()
        held_bytes = 0
        with futures.ThreadPoolExecutor(self._threads) as threads:
            for one in found:
                data = one.read()
                verdict: futures.Future[decoders.Picture | decoders.Refusal]
                if isinstance(data, decoders.Refusal) or one.picture is not None:
                    verdict = futures.Future()
                    known = data if isinstance(data, decoders.Refusal) else one.picture
                    assert known is not None
                    verdict.set_result(known)
                else:
                    verdict = threads.submit(self._verify, data)
                body = b"" if isinstance(data, decoders.Refusal) else data
                window.append((one, body, verdict))
                held_bytes += len(body)
                while held_bytes > WINDOW_BYTES or len(window) > WINDOW_FILES:
                    first, body, done = window.popleft()
                    held_bytes -= len(body)
                    yield first, body, done.result()
            for first, body, done in window:
                yield first, body, done.result()

    def _verify(self, data: bytes) -> decoders.Picture | decoders.Refusal:
        with self._pool.borrow() as decoder:
            return decoder.verify(data)

    def _store_tables(
        self,
        prefix: str,
        items: tuple[dataset_tables.Item, ...],
        labels: list[dataset_tables.Label],
        classes: tuple[str, ...],
    ) -> tables.Version:
        manifest = dataset_tables.manifest_table(items)
        table = dataset_tables.labels_table(labels)
        self._objects.put(names.manifest_key(prefix), manifest.data, sha256=manifest.sha256)
        self._objects.put(names.labels_key(prefix), table.data, sha256=table.sha256)
        return tables.Version(
            parent=None,
            digest=repository.digest_of(manifest.sha256, table.sha256, classes),
            items=len(items),
            labelled=len(labels),
            bytes=sum(item.size for item in items),
            classes=list(classes),
            label_sources=repository.sources_of(labels),
            manifest_key=names.manifest_key(prefix),
            manifest_sha256=manifest.sha256,
            labels_key=names.labels_key(prefix),
            labels_sha256=table.sha256,
            idempotency_key="",
            created_s=self._clock.now(),
        )

    def _check_stored(self, row: tables.Version, prefix: str) -> None:
        """Check that every object is in the store: a slow older worker may have deleted some."""
        stored = {info.key: info.size for info in self._objects.list(f"{prefix}/")}
        wanted = {one["key"]: one["size"] for one in row.shards}
        missing = [key for key, size in wanted.items() if stored.get(key) != size]
        missing += [key for key in (row.manifest_key, row.labels_key) if key not in stored]
        if missing:
            raise errors.Unavailable(
                f"{len(missing)} objects of the import are missing, first {missing[0]!r}.",
                hint="The import is tried again.",
            )

    def _delete_below(self, prefix: str) -> None:
        for info in list(self._objects.list(f"{prefix}/")):
            self._objects.delete(info.key)


def _nothing_good(progress: Progress) -> errors.InvalidSpec:
    if not progress.rejected:
        return errors.InvalidSpec(
            "The upload holds no files.", hint="Send at least one image.", field="upload_id"
        )
    first = progress.rejected[0]
    return errors.InvalidSpec(
        f"None of the {progress.total:,} files could be imported; the first, {first.name!r}: "
        f"{first.message}.",
        hint="Correct the files and import again.",
        field="upload_id",
    )


def _owner(claim: jobs.Claim) -> str:
    return f"import:{claim.id}"
