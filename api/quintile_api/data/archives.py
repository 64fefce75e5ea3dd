"""Reads zip archives from strangers: bounded in members, size and ratio, no path ever used.

Nothing is unpacked to disk. Whole-archive trouble raises; trouble with one member makes that
member a rejected file.
"""

from __future__ import annotations

import functools
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from quintile.core import datasets, errors
from quintile_api.data import candidates, decoders

_JUNK: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_PLAIN: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END: Final = struct.Struct("<4s4H2LH")
_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_ENCRYPTED_FLAG: Final = 0x1
_UNIX: Final = 3
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What ``zipfile`` raises for members that lie about themselves."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    ``ratio`` (unpacked to packed) counts only for archives that unpack to more than
    ``ratio_free_bytes``; one member may always be ``file_bytes`` large.
    """

    members: int = 1_000_000
    directory_bytes: int = 256 * 1024**2
    file_bytes: int = 128 * 1024**2
    total_bytes: int = 256 * 1024**3
    ratio: int = 100
    ratio_free_bytes: int = 256 * 1024**2


LIMITS: Final = Limits()


@dataclass(frozen=True)
class Member:
    """A member whose name and kind are acceptable; ``name`` without a leading ``./``."""

    name: str
    info: zipfile.ZipInfo


@dataclass(frozen=True)
class Archive:
    """An open archive: acceptable members by name, and those left out."""

    file: zipfile.ZipFile
    members: dict[str, Member]
    rejected: tuple[datasets.RejectedFile, ...]
    limits: Limits

    def read(self, member: Member) -> bytes | decoders.Refusal:
        """Return the bytes of a member, or why they cannot be read."""
        try:
            with self.file.open(member.info) as stream:
                data = stream.read(self.limits.file_bytes + 1)
        except _DAMAGED as error:
            text = " ".join(str(error).split())[:120]
            return decoders.Refusal(
                "Damaged", f"the archive is damaged at this file ({text}); zip it again"
            )
        if len(data) > self.limits.file_bytes:
            return decoders.Refusal("TooLarge", _too_large(len(data), self.limits))
        return data if data else decoders.Refusal("Empty", "the file has no bytes")


def open_archive(source: io.BufferedReader, limits: Limits = LIMITS) -> Archive:
    """Read the directory of an archive and judge every member by its entry.

    Raises:
        InvalidSpec: Not a zip, or damaged as a whole.
        TooLarge: It holds too much, or unpacks to suspiciously much.
    """
    packed_bytes = _check_directory(source, limits)
    try:
        file = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise _not_a_zip(str(error)) from error
    entries = [entry for entry in file.infolist() if not entry.is_dir()]
    if len(entries) > limits.members:
        raise errors.TooLarge(
            f"The archive holds {len(entries):,} files; at most {limits.members:,} are taken.",
            hint="Import it in parts.",
        )
    total_bytes = sum(entry.file_size for entry in entries)
    if total_bytes > limits.total_bytes:
        raise errors.TooLarge(
            f"The archive unpacks to {total_bytes:,} bytes; at most {limits.total_bytes:,} are "
            "taken.",
            hint="Import it in parts.",
        )
    if total_bytes > max(limits.ratio_free_bytes, packed_bytes * limits.ratio):
        raise errors.TooLarge(
            f"The archive has {packed_bytes:,} bytes and unpacks to {total_bytes:,}: more than "
            f"{limits.ratio} times as much.",
            hint="Images do not shrink that much; send an archive of image files.",
        )
    return _judge_all(file, entries, limits)


def images(archive: Archive, *, classes: Sequence[str], from_folders: bool) -> candidates.Found:
    """Return the members as candidates, labelled by their folder when ``from_folders``.

    The class is the first folder below those that all files share (``data/cat/1.png`` ->
    ``cat``).
    """
    names = sorted(archive.members)
    if not from_folders:
        found = [_candidate(archive, name) for name in names]
        return candidates.Found(tuple(found), archive.rejected, tuple(classes))
    shared = _shared_folders(names)
    labelled = []
    refused = list(archive.rejected)
    for name in names:
        folders = name.split("/")[shared:-1]
        if folders:
            labelled.append(_candidate(archive, name, label=folders[0]))
        else:
            message = "the file lies in no folder; expected CLASS/FILE because labels_from=folders"
            refused.append(candidates.rejected(name, "NoClass", message))
    known = candidates.classes_of((str(one.label) for one in labelled), classes)
    good, unknown = candidates.keep_known(labelled, known)
    return candidates.Found(tuple(good), (*refused, *unknown), known)


def listed(
    archive: Archive, rows: Iterable[tuple[int, str, str | None]], *, classes: Sequence[str]
) -> candidates.Found:
    """Return the members that a manifest lists: rows are (row number, file, label or None).

    Rows without a member, and members without a row, are rejected.
    """
    labelled: list[candidates.Candidate] = []
    refused = {bad.name: bad for bad in archive.rejected}
    missing: list[datasets.RejectedFile] = []
    by_base = _by_base_name(archive.members)
    seen: set[str] = set()
    for row, name, label in rows:
        wanted = name.removeprefix("./")
        seen.add(wanted)
        if wanted in archive.members:
            labelled.append(_candidate(archive, wanted, label=label, row=row))
        elif name in refused:
            refused[name] = refused[name].model_copy(update={"row": row})
        else:
            message = _missing(by_base.get(wanted.rpartition("/")[2], ()))
            missing.append(candidates.rejected(name, "MissingFile", message, row=row))
    message = "no row of the manifest names this file; add one, or leave the file out"
    extra = [
        candidates.rejected(name, "NotInManifest", message)
        for name in sorted(archive.members.keys() - seen)
    ]
    labels = (one.label for one in labelled if one.label is not None)
    known = candidates.classes_of(labels, classes)
    good, unknown = candidates.keep_known(labelled, known)
    ordered = tuple(sorted(good, key=lambda one: one.name))
    return candidates.Found(ordered, (*refused.values(), *missing, *unknown, *extra), known)


def _check_directory(source: io.BufferedReader, limits: Limits) -> int:
    """Check the size of the directory before it is parsed; return the size of the archive."""
    size = source.seek(0, io.SEEK_END)
    start = max(0, size - (1 << 16) - _END.size)
    source.seek(start)
    tail = source.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise _not_a_zip("no end of a zip directory found")
    end = _END.unpack_from(tail, place)
    entries, directory_bytes = end[4], end[5]
    locator = start + place - _LOCATOR.size
    if locator >= 0 and (entries == 0xFFFF or directory_bytes == 0xFFFFFFFF):
        source.seek(locator)
        signature, _, offset, _ = _LOCATOR.unpack(source.read(_LOCATOR.size))
        if signature == b"PK\x06\x07" and offset + _END64.size <= size:
            source.seek(offset)
            end64 = _END64.unpack(source.read(_END64.size))
            entries, directory_bytes = end64[7], end64[8]
    if entries > limits.members or directory_bytes > limits.directory_bytes:
        raise errors.TooLarge(
            f"The archive lists {entries:,} files in a directory of {directory_bytes:,} bytes; at "
            f"most {limits.members:,} files and {limits.directory_bytes:,} bytes are taken.",
            hint="Import it in parts.",
        )
    return size


def _judge_all(
    file: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], limits: Limits
) -> Archive:
    members: dict[str, Member] = {}
    refused: list[datasets.RejectedFile] = []
    for entry in entries:
        name = entry.orig_filename.removeprefix("./")
        parts = name.split("/")
        hidden = parts[-1].startswith(".") and not candidates.unsafe(name)
        if hidden or not _JUNK.isdisjoint(parts):
            continue
        problem = _judge(entry, name, limits)
        if problem is None and name in members:
            problem = decoders.Refusal(
                "DuplicateName", "the archive holds this name more than once; the first is taken"
            )
        if problem is None:
            members[name] = Member(name, entry)
        else:
            refused.append(candidates.rejected(name, problem.reason, problem.message))
    return Archive(file, members, tuple(refused), limits)


def _judge(entry: zipfile.ZipInfo, name: str, limits: Limits) -> decoders.Refusal | None:
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
    trouble = candidates.unsafe(name)
    if trouble:
        return decoders.Refusal("UnsafeName", trouble)
    if kind == stat.S_IFLNK:
        return decoders.Refusal("Link", "the member is a symbolic link; zip the file itself")
    if kind not in (0, stat.S_IFREG):
        return decoders.Refusal("NotAFile", "the member is no plain file")
    if entry.flag_bits & _ENCRYPTED_FLAG:
        return decoders.Refusal("Encrypted", "the member has a password; zip it without one")
    if entry.compress_type not in _PLAIN:
        return decoders.Refusal(
            "Compression",
            f"compression method {entry.compress_type} is not read; zip with deflate or store",
        )
    if entry.file_size > limits.file_bytes:
        return decoders.Refusal("TooLarge", _too_large(entry.file_size, limits))
    return None


def _candidate(
    archive: Archive, name: str, *, label: str | None = None, row: int | None = None
) -> candidates.Candidate:
    read = functools.partial(archive.read, archive.members[name])
    return candidates.Candidate(name=name, read=read, label=label, row=row)


def _shared_folders(names: Sequence[str]) -> int:
    """Return how many leading folders all files share, leaving each file at least one."""
    paths = [name.split("/")[:-1] for name in names if "/" in name]
    if not paths or len(paths) < len(names):
        return 0
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return shared


def _by_base_name(members: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in members:
        found.setdefault(name.rpartition("/")[2], []).append(name)
    return found


def _missing(near: Sequence[str]) -> str:
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"the archive holds no file of this name{hint}"


def _too_large(size_bytes: int, limits: Limits) -> str:
    return f"the file has {size_bytes:,} bytes; at most {limits.file_bytes:,} are taken"


def _not_a_zip(detail: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"The upload is not a readable zip archive ({' '.join(detail.split())[:120]}).",
        hint="Zip the folder again and send the whole file.",
        field="upload_id",
    )
