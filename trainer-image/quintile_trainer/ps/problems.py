"""Why a parameter server or its client gives up, beyond ``failures.PeerLost``."""

from __future__ import annotations

from quintile_trainer import failures


class Fenced(failures.PeerLost):
    """The other side belongs to another generation; this process must stop."""


class Refused(failures.Broken):
    """The other side does not accept us: another secret, another model, or a malformed frame."""
