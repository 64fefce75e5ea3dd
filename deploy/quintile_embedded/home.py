"""The folder of an embedded instance: where everything lies, its keys, and its lock.

``open_home`` makes the folder; ``claim`` takes it for this process alone. The lock is held by a
file descriptor, so that it ends with the process however that dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from quintile.adapters import tokens_ed25519
from quintile.core import errors

NEEDED_BYTES: Final = 64 * 1024 * 1024
"""Less free space than this is no start: the first write would fail."""

KEY_BYTES: Final = 32
BESIDES: Final = frozenset({"cache", "calibrations", "lost+found"})
"""What may lie in a folder before it becomes a home."""

SHOWN: Final = 3
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOCKS: Final = frozenset({errno.EWOULDBLOCK, errno.EACCES})


@dataclass(frozen=True)
class Home:
    """The paths below the home folder."""

    root: pathlib.Path

    @property
    def data(self) -> pathlib.Path:
        """Databases."""
        return self.root / "data"

    @property
    def store(self) -> pathlib.Path:
        """Bytes of datasets, checkpoints and bundles."""
        return self.root / "store"

    @property
    def runs(self) -> pathlib.Path:
        """State folders of agents."""
        return self.root / "runs"

    @property
    def keys(self) -> pathlib.Path:
        """Secrets, each in a file of its own."""
        return self.root / "keys"

    @property
    def cache(self) -> pathlib.Path:
        """Shards that agents fetched; may be deleted at any time."""
        return self.root / "cache"

    @property
    def client(self) -> pathlib.Path:
        """Address and token for SDK and CLI on this machine."""
        return self.root / "client.json"

    @property
    def port(self) -> pathlib.Path:
        """The port of the last start: running agents call it, so the next start takes it again."""
        return self.root / "port"

    @property
    def lock(self) -> pathlib.Path:
        """Held while an instance runs; says which one."""
        return self.root / "lock"

    def database(self, name: str) -> str:
        """Return the address of one of the databases."""
        return f"sqlite:///{self.data / name}.db"


@dataclass(frozen=True)
class Keys:
    """The secrets of an instance: made once, then read."""

    trial_pem: bytes
    urls: bytes
    session: bytes
    service_token: str


def open_home(root: pathlib.Path) -> Home:
    """Make the folders, for the owner's eyes only. Idempotent.

    Raises:
        InvalidSpec: The path cannot be a home: no folder, not ours, not writable, used otherwise.
        StoreFull: No room left on its disk.
    """
    home = Home(_absolute(root))
    with translated(home.root):
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.root.stat().st_uid != os.geteuid():
            raise errors.InvalidSpec(
                f"The home {home.root} belongs to another user.",
                hint="Name a folder of your own: quintile up --home FOLDER.",
                field="home",
            )
        _check_ours(home)
        home.root.chmod(0o700)
        free_bytes = shutil.disk_usage(home.root).free
        if free_bytes < NEEDED_BYTES:
            raise errors.StoreFull(
                f"The disk of the home {home.root} has {free_bytes / 2**20:.0f} MiB free; at least "
                f"{NEEDED_BYTES / 2**20:.0f} MiB are needed to start.",
                hint="Free space there, or name a folder on another disk with --home.",
            )
        for folder in (home.data, home.store, home.runs, home.keys, home.cache):
            folder.mkdir(mode=0o700, exist_ok=True)
    return home


def _absolute(root: pathlib.Path) -> pathlib.Path:
    try:
        return root.expanduser().absolute()
    except RuntimeError as error:
        raise errors.InvalidSpec(
            f"The home {root} names the folder of a user that is not known here.",
            hint="Name a folder of your own: quintile up --home FOLDER.",
            field="home",
        ) from error


def _check_ours(home: Home) -> None:
    """Refuse a folder of other things: it would be closed to others, and mixed with our files."""
    if home.keys.exists() or home.lock.exists():
        return
    strange = sorted({path.name for path in home.root.iterdir()} - BESIDES)
    if strange:
        raise errors.InvalidSpec(
            f"The folder {home.root} holds other things ({', '.join(strange[:SHOWN])}"
            f"{', …' if len(strange) > SHOWN else ''}) and is no home of Quintile.",
            hint="Name a new or an empty folder: quintile up --home FOLDER.",
            field="home",
        )


@contextlib.contextmanager
def claim(home: Home) -> Iterator[IO[bytes]]:
    """Hold the home for this process; yields the open lock file for ``sign``.

    Raises:
        Conflict: Another instance runs in it; the message names its address.
    """
    with translated(home.root):
        descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _LOCKS:
                raise
            raise _occupied(home, file.read()) from error
        try:
            yield file
        finally:
            file.truncate(0)


def sign(lock: IO[bytes], url: str) -> None:
    """Write into the lock who holds it and where it listens."""
    lock.seek(0)
    lock.truncate(0)
    lock.write(json.dumps({"pid": os.getpid(), "url": url}).encode())


def ensure_keys(home: Home) -> Keys:
    """Return the secrets; make those that are missing, mode 0600."""
    with translated(home.root):
        return Keys(
            trial_pem=tokens_ed25519.ensure_private_pem(home.keys / "trial.pem"),
            urls=_ensure_secret(home.keys / "urls.key"),
            session=_ensure_secret(home.keys / "session.key"),
            service_token=_ensure_secret(home.keys / "service.key").hex(),
        )


def write_private(path: pathlib.Path, data: bytes) -> None:
    """Replace a file whole, mode 0600."""
    with translated(path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextlib.contextmanager
def translated(path: pathlib.Path) -> Iterator[None]:
    """Turn errors of the file system into the Quintile family, chained."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise errors.StoreFull(
                f"No room left on the disk of {path}.",
                hint="Free space there, or name a folder on another disk with --home.",
            ) from error
        raise errors.InvalidSpec(
            f"The home {path} cannot be used: {error.strerror or error}.",
            hint="Name a folder that you may write to: quintile up --home FOLDER.",
            field="home",
        ) from error


def _ensure_secret(path: pathlib.Path) -> bytes:
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = secrets.token_bytes(KEY_BYTES)
        write_private(path, found)
        return found
    if len(found) != KEY_BYTES:
        raise errors.InvalidSpec(
            f"The key file {path} has {len(found)} bytes; expected {KEY_BYTES}.",
            hint="Restore it from a backup, or delete it; people then sign in again.",
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    return found


def _occupied(home: Home, record: bytes) -> errors.Conflict:
    try:
        known = json.loads(record)
        where = f"at {known['url']} (process {known['pid']})"
    except (ValueError, KeyError, TypeError):
        where = "that is just starting"
    return errors.Conflict(
        f"The home {home.root} belongs to a running instance {where}.",
        hint="Use that one, stop it first, or start another with --home FOLDER.",
        field="home",
    )
