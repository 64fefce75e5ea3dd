"""How the ranks come to share memory, with proof that they are on one host.

Rank 0 makes the memory and listens on a Unix socket without a file. The address goes over the store
that the ranks already have; the open file goes over the socket, which only processes of one running
kernel can use. Each rank then writes a number into the memory that rank 0 reads back there. Numbers
of ranks per host, as launchers tell them, are not believed. Nothing has a name in any file system,
so nothing is left after a crash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import secrets
import socket
import struct
import time
from pathlib import Path
from typing import Any, Protocol

from quintile_trainer import threads
from quintile_trainer.shm import group as group_module
from quintile_trainer.shm import layout as layout_module
from quintile_trainer.shm import liveness, mapping, problems
from quintile_trainer.shm import settings as settings_module

_MOST_BYTES = 128 << 20
_LEAST_BANKS = 2
_LOOK_S = 0.1
_REPLY_S = 10.0
_GREETING_BYTES = 512
_NONCE = struct.Struct("=Q")
_CREDENTIALS = struct.Struct("3i")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Board(Protocol):
    """What we use of ``torch.distributed.Store``; keys are ours alone (a ``PrefixStore``)."""

    def set(self, key: str, value: str, /) -> None:
        """Store text."""
        ...

    def get(self, key: str, /) -> bytes:
        """Return what is stored."""
        ...

    def check(self, keys: list[str], /) -> bool:
        """Return whether all keys are there."""
        ...

    def wait(self, keys: list[str], timeout: datetime.timedelta, /) -> None:
        """Wait for keys; raises RuntimeError when they do not come."""
        ...


def join(
    board: Board, rank: int, world_size: int, given: settings_module.Settings | None = None
) -> group_module.Group:
    """Return this rank's end of the group, once all ranks are there. Called by every rank.

    Raises:
        NotOneHost: A rank does not see this memory; every rank raises it.
        LateRank: A rank did not come in time.
        NoMemory: The memory does not fit.
        Mismatch: The ranks have other settings, or two have one number.
    """
    given = _fitting(given or settings_module.Settings(), world_size)
    layout = layout_module.plan_layout(world_size, given)
    end = time.monotonic() + given.meeting_s
    if rank == 0:
        memory = _Host(board, layout, end).meet(given.folder)
    else:
        memory = _Guest(board, layout, rank, end).meet()
    return group_module.Group(memory, rank, given)


def _fitting(given: settings_module.Settings, world_size: int) -> settings_module.Settings:
    """Return settings for so many ranks: a bound on the memory, no looking where cores are shared.

    Who shares a core only keeps the rank from running that it looks out for.
    """
    banks = _MOST_BYTES // (world_size * given.piece_bytes)
    quota = threads.quota()
    cores = threads.available() if quota is None else min(threads.available(), quota)
    return dataclasses.replace(
        given,
        banks=max(_LEAST_BANKS, min(given.banks, banks)),
        spin_us=given.spin_us if world_size <= cores else 0,
    )


class _Host:
    """Rank 0."""

    def __init__(self, board: Board, layout: layout_module.Layout, end: float) -> None:
        self._board = board
        self._layout = layout
        self._end = end
        self._token = secrets.token_hex(16)
        self._guests: dict[int, socket.socket] = {}

    def meet(self, folder: Path | None) -> mapping.Memory:
        try:
            memory = mapping.create(self._layout, folder)
        except problems.NoMemory as error:
            self._board.set("offer", json.dumps({"refused": str(error)}))
            raise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            try:
                liveness.hold(memory.descriptor, 0)
                self._gather(listener, memory)
                for guest in self._guests.values():
                    guest.sendall(b"1")
            except BaseException as error:
                # Said before anybody is hung up on, so that they can look it up.
                self._say_end(error)
                memory.close()
                raise
            finally:
                for guest in self._guests.values():
                    guest.close()
        return memory

    def _gather(self, listener: socket.socket, memory: mapping.Memory) -> None:
        name = f"quintile-shm-{secrets.token_hex(8)}"
        listener.bind("\0" + name)
        listener.listen(self._layout.world_size)
        listener.settimeout(_LOOK_S)
        offer = {"name": name, "token": self._token, "boot": _boot()}
        self._board.set("offer", json.dumps(offer))
        while missing := self._missing():
            self._look(missing)
            try:
                guest, _ = listener.accept()
            except TimeoutError:
                continue
            self._welcome(guest, memory)

    def _missing(self) -> list[int]:
        return [rank for rank in range(1, self._layout.world_size) if rank not in self._guests]

    def _look(self, missing: list[int]) -> None:
        for rank in missing:
            key = f"refused/{rank}"
            if self._board.check([key]):
                raise problems.NotOneHost(rank, self._board.get(key).decode())
        if time.monotonic() >= self._end:
            names = ", ".join(map(str, missing))
            raise problems.LateRank(
                missing[0], f"rank {names} did not come to share memory in time"
            )

    def _welcome(self, guest: socket.socket, memory: mapping.Memory) -> None:
        guest.settimeout(_REPLY_S)
        try:
            asked = _greeting(guest, self._token)
            if asked is None:
                guest.close()
                return
            if asked in self._guests or not 0 < asked < self._layout.world_size:
                raise problems.Mismatch(f"a second process says that it is rank {asked}")
            self._guests[asked] = guest
            socket.send_fds(guest, [b"1"], [memory.descriptor])
            sent = _NONCE.unpack(_exactly(guest, _NONCE.size))[0]
        except OSError as error:
            guest.close()
            raise problems.LateRank(
                0, f"a rank left while the ranks came to share memory: {error}"
            ) from error
        if memory.words[self._layout.counter("nonce", asked)] != sent:
            raise problems.NotOneHost(asked, f"rank {asked} does not see the memory of rank 0")

    def _say_end(self, error: BaseException) -> None:
        """Tell everybody why there will be no group."""
        reason = {
            "kind": type(error).__name__,
            "rank": getattr(error, "rank", 0),
            "message": str(error) or type(error).__name__,
        }
        self._board.set("end", json.dumps(reason))


class _Guest:
    """Any other rank."""

    def __init__(self, board: Board, layout: layout_module.Layout, rank: int, end: float) -> None:
        self._board = board
        self._layout = layout
        self._rank = rank
        self._end = end

    def meet(self) -> mapping.Memory:
        offer = self._offer()
        if offer["boot"] != _boot():
            self._refuse("it runs on another host")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as host:
            try:
                host.connect("\0" + offer["name"])
            except OSError as error:
                self._raise_end()
                self._refuse(f"it does not reach rank 0 inside one host or container ({error})")
            try:
                return self._enter(host, offer["token"])
            except OSError as error:
                self._raise_end()
                raise problems.LateRank(
                    0, f"rank 0 left while the ranks came to share memory: {error}"
                ) from error

    def _enter(self, host: socket.socket, token: str) -> mapping.Memory:
        host.settimeout(max(self._end - time.monotonic(), 0) + _REPLY_S)
        host.sendall(json.dumps({"rank": self._rank, "token": token}).encode() + b"\n")
        word, files, _, _ = socket.recv_fds(host, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if word != b"1" or len(files) != 1:
            raise ConnectionResetError("rank 0 hung up")
        memory = mapping.attach(files[0], self._layout)
        try:
            liveness.hold(memory.descriptor, self._rank)
            nonce = secrets.randbits(63) | 1
            memory.words[self._layout.counter("nonce", self._rank)] = nonce
            host.sendall(_NONCE.pack(nonce))
            if host.recv(1) != b"1":
                raise ConnectionResetError("rank 0 hung up")
        except BaseException:
            memory.close()
            raise
        return memory

    def _offer(self) -> dict[str, Any]:
        try:
            left = max(self._end - time.monotonic(), 0.001)
            self._board.wait(["offer"], datetime.timedelta(seconds=left))
        except RuntimeError as error:
            raise problems.LateRank(0, "rank 0 did not offer shared memory in time") from error
        offer: dict[str, Any] = json.loads(self._board.get("offer"))
        if "refused" in offer:
            raise problems.NoMemory(offer["refused"])
        return offer

    def _refuse(self, why: str) -> None:
        message = f"rank {self._rank} cannot share memory with rank 0: {why}; use comm: gloo"
        # Without the store rank 0 is gone as well.
        with contextlib.suppress(RuntimeError):
            self._board.set(f"refused/{self._rank}", message)
        raise problems.NotOneHost(self._rank, message)

    def _raise_end(self) -> None:
        """Raise what rank 0 ended the meeting for, if it did."""
        try:
            if not self._board.check(["end"]):
                return
            reason = json.loads(self._board.get("end"))
        except RuntimeError:  # the store was rank 0's, which is gone
            return
        if reason["kind"] == problems.NotOneHost.__name__:
            raise problems.NotOneHost(reason["rank"], reason["message"])
        if reason["kind"] == problems.Mismatch.__name__:
            raise problems.Mismatch(reason["message"])
        raise problems.LateRank(reason["rank"], reason["message"])


def _greeting(guest: socket.socket, token: str) -> int | None:
    """Return the rank that a connection says it is, None when it is no rank of ours."""
    raw = guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    text = b""
    while not text.endswith(b"\n") and len(text) < _GREETING_BYTES:
        part = guest.recv(_GREETING_BYTES)
        if not part:
            return None
        text += part
    try:
        greeting = json.loads(text)
        rank, shown = int(greeting["rank"]), str(greeting["token"])
    except (ValueError, KeyError, TypeError):
        return None
    allowed = uid == os.geteuid() and secrets.compare_digest(shown.encode(), token.encode())
    return rank if allowed else None


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise ConnectionResetError("it hung up")
        data += part
    return data


def _boot() -> str:
    """Return what tells this start of this kernel from all others."""
    return _BOOT.read_text().strip()
