"""Exit codes of ranks, and the word for each. Standard library only."""

from __future__ import annotations

from typing import Final

COMPLETED: Final = 0
USER_ERROR: Final = 1
INTERNAL: Final = 70
DISK_FULL: Final = 73
PEER_LOST: Final = 74
YIELDED: Final = 75
OUT_OF_MEMORY: Final = 137

REASONS: Final = {
    USER_ERROR: "UserError",
    INTERNAL: "Internal",
    DISK_FULL: "DiskFull",
    PEER_LOST: "PeerLost",
    YIELDED: "Preempted",
    OUT_OF_MEMORY: "OutOfMemory",
}
"""``PeerLost``: this rank is fine, a collective failed because another one left."""
