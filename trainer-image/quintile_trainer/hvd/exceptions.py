"""Horovod's exceptions, under their own names."""

from __future__ import annotations

from quintile_trainer import failures

__all__ = ["HorovodInternalError", "HostsUpdatedInterrupt"]


class HorovodInternalError(failures.PeerLost, RuntimeError):
    """A collective failed, as a rule because another rank left."""


class HostsUpdatedInterrupt(RuntimeError):  # noqa: N818
    """Horovod's sign that hosts came or went; the platform restarts ranks instead."""

    def __init__(self, skip_sync: bool = False) -> None:
        super().__init__("hosts were added or removed")
        self.skip_sync = skip_sync
