"""Uploads: a source arrives in pieces, in order, and survives restarts of server and client.

Every piece is an object of its own; its row and the new offset are one transaction. ``Source``
reads the pieces as one seekable file. Uploads that nobody touched for a day are forgotten.
"""

from __future__ import annotations

import bisect
import errno
import hashlib
import io
import secrets
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import engine, orm

from quintile import ports
from quintile.adapters import sql
from quintile.core import datasets, errors, names
from quintile_api.data import tables

MIB: Final = 1024 * 1024
PIECE_LIMIT_BYTES: Final = 64 * MIB
PIECE_LEAST_BYTES: Final = 64 * 1024
UPLOAD_LIMIT_BYTES: Final = 1024 * 1024 * MIB
FORGET_S: Final = 24 * 3600
READ_AHEAD_BYTES: Final = MIB


def create(
    session: orm.Session, project: str, *, size: int, sha256: str, now_s: float
) -> datasets.UploadView:
    """Begin an upload of ``size`` bytes; ``sha256`` is checked at its end when given."""
    row = tables.Upload(
        id=secrets.token_hex(16),
        project=project,
        size=size,
        sha256=sha256,
        offset=0,
        complete=False,
        touched_s=now_s,
    )
    session.add(row)
    return view(row)


def view(row: tables.Upload) -> datasets.UploadView:
    """Return the wire form."""
    return datasets.UploadView(id=row.id, offset=row.offset, size=row.size, complete=row.complete)


def find(session: orm.Session, project: str, upload_id: str) -> tables.Upload:
    """Return an upload of the project.

    Raises:
        NotFound: There is none (or it was used, or forgotten after a day).
    """
    row = session.get(tables.Upload, upload_id)
    if row is None or row.project != project:
        raise errors.NotFound(
            f"There is no upload {upload_id!r} in project {project!r}.",
            hint="Begin a new upload; they are forgotten after a day, and after their import.",
        )
    return row


class UploadStore:
    """Takes pieces and gives them back as one file."""

    def __init__(
        self, database: sql.Database, objects: ports.ObjectStore, clock: ports.Clock
    ) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock

    def append(
        self, project: str, upload_id: str, *, offset: int, data: bytes
    ) -> datasets.UploadView:
        """Store the next piece.

        Raises:
            Conflict: Another offset is expected (the message names it).
            InvalidSpec: The piece is too small, goes beyond the end, or the digest of the whole
                is another one than was announced (the upload then begins again at 0).
            TooLarge: The piece is too large.

        An empty piece at the end asks again for the check of the whole.
        """
        with self._database.read() as session:
            row = find(session, project, upload_id)
            _check_piece(row, offset, len(data))
        if not data:
            # All bytes came before, but the server died while it checked them.
            return self._complete(project, upload_id)
        key = names.upload_piece_key(upload_id, start=offset, token=secrets.token_hex(8))
        self._objects.put(key, data)
        try:
            row = self._record(upload_id, offset=offset, size=len(data), key=key)
        except errors.QuintileError:
            self._objects.delete(key)
            raise
        if row.offset == row.size:
            return self._complete(project, upload_id)
        return view(row)

    def open(self, upload_id: str) -> io.BufferedReader:
        """Return the whole upload as a seekable file.

        Raises:
            NotFound: The upload is gone.
        """
        with self._database.read() as session:
            row = session.get(tables.Upload, upload_id)
            if row is None:
                raise errors.NotFound(f"There is no upload {upload_id!r}.")
            pieces = session.scalars(
                sa.select(tables.UploadPiece)
                .where(tables.UploadPiece.upload_id == upload_id)
                .order_by(tables.UploadPiece.start)
            ).all()
        return io.BufferedReader(Source(self._objects, pieces), buffer_size=READ_AHEAD_BYTES)

    def forget(self, upload_id: str) -> None:
        """Delete an upload and its bytes. Idempotent."""
        with self._database.write() as session:
            session.execute(sa.delete(tables.Upload).where(tables.Upload.id == upload_id))
        for info in list(self._objects.list(f"{names.upload_key(upload_id)}/")):
            self._objects.delete(info.key)

    def forget_stale(self) -> int:
        """Delete uploads that nobody touched for a day; return how many."""
        before_s = self._clock.now() - FORGET_S
        used = sa.select(tables.Job.payload["upload_id"].as_string()).where(
            tables.Job.kind == "import", tables.Job.state.in_(("queued", "running"))
        )
        stale = sa.select(tables.Upload.id).where(
            tables.Upload.touched_s < before_s, tables.Upload.id.not_in(used)
        )
        with self._database.read() as session:
            found = session.scalars(stale).all()
        for upload_id in found:
            self.forget(upload_id)
        return len(found)

    def _record(self, upload_id: str, *, offset: int, size: int, key: str) -> tables.Upload:
        with self._database.write() as session:
            moved = session.execute(
                sa.update(tables.Upload)
                .where(tables.Upload.id == upload_id, tables.Upload.offset == offset)
                .values(offset=offset + size, touched_s=self._clock.now())
            )
            assert isinstance(moved, engine.CursorResult)
            row = session.get(tables.Upload, upload_id, populate_existing=True)
            if row is None:
                raise errors.NotFound(f"There is no upload {upload_id!r}.")
            if moved.rowcount != 1:
                raise _unexpected(row, offset)
            session.add(tables.UploadPiece(upload_id=upload_id, start=offset, size=size, key=key))
            return row

    def _complete(self, project: str, upload_id: str) -> datasets.UploadView:
        with self._database.read() as session:
            wanted = find(session, project, upload_id).sha256
        if wanted:
            with self.open(upload_id) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != wanted:
                self._begin_again(upload_id)
                raise errors.InvalidSpec(
                    f"The upload has SHA-256 {found[:12]}…, not {wanted[:12]}… as announced.",
                    hint="Send all bytes again from offset 0.",
                    field="sha256",
                )
        with self._database.write() as session:
            row = find(session, project, upload_id)
            row.complete = True
            return view(row)

    def _begin_again(self, upload_id: str) -> None:
        with self._database.write() as session:
            session.execute(
                sa.delete(tables.UploadPiece).where(tables.UploadPiece.upload_id == upload_id)
            )
            session.execute(
                sa.update(tables.Upload).where(tables.Upload.id == upload_id).values(offset=0)
            )
        for info in list(self._objects.list(f"{names.upload_key(upload_id)}/")):
            self._objects.delete(info.key)


class Source(io.RawIOBase):
    """The pieces of an upload as one read-only file."""

    def __init__(self, objects: ports.ObjectStore, pieces: Sequence[tables.UploadPiece]) -> None:
        super().__init__()
        self._objects = objects
        self._keys = [piece.key for piece in pieces]
        self._starts = [piece.start for piece in pieces]
        self._size = pieces[-1].start + pieces[-1].size if pieces else 0
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            # As a file does: zipfile expects it of an archive that is shorter than its records.
            raise OSError(errno.EINVAL, f"negative seek position {base + offset}")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read from the piece in which the place lies, up to its end."""
        if self._place >= self._size:
            return 0
        index = bisect.bisect_right(self._starts, self._place) - 1
        data = self._objects.get(
            self._keys[index], start=self._place - self._starts[index], length=len(buffer)
        )
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _check_piece(row: tables.Upload, offset: int, size: int) -> None:
    if offset != row.offset:
        raise _unexpected(row, offset)
    if size > PIECE_LIMIT_BYTES:
        raise errors.TooLarge(
            f"The piece has {size:,} bytes; at most {PIECE_LIMIT_BYTES:,} are taken at once.",
            hint="Send smaller pieces.",
        )
    if offset + size > row.size:
        raise errors.InvalidSpec(
            f"The piece goes to byte {offset + size:,} of an upload of {row.size:,} bytes.",
            hint="Begin a new upload with the right size.",
            field="offset",
        )
    if size < PIECE_LEAST_BYTES and offset + size != row.size:
        raise errors.InvalidSpec(
            f"The piece has {size:,} bytes; every piece but the last has at least "
            f"{PIECE_LEAST_BYTES:,}.",
            hint="Send larger pieces.",
            field="offset",
        )


def _unexpected(row: tables.Upload, offset: int) -> errors.Conflict:
    return errors.Conflict(
        f"Upload {row.id} expects byte {row.offset} next, not {offset}.",
        hint=f"Go on with ?offset={row.offset}.",
        field="offset",
    )
