"""Who may look at a TensorBoard: members of the project, and browsers that they sent here.

A *ticket* is good once and for ten minutes. It gives a browser a *pass*: a cookie for one
experiment's TensorBoard and nothing else, so that a program's token never turns into a sign-in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from dataclasses import dataclass
from typing import Final

from quintile import ports
from quintile.core import errors
from quintile_api.identity import secrets

COOKIE: Final = "quintile_tensorboard"
TICKET_S: Final = 600.0


@dataclass(frozen=True)
class _Ticket:
    user_id: str
    project: str
    name: str
    expires_s: float


class Admission:
    """Tickets and passes of this process of the API. Thread-safe."""

    def __init__(self, key: bytes, clock: ports.Clock) -> None:
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._tickets: dict[str, _Ticket] = {}

    def ticket(self, user_id: str, *, project: str, name: str) -> str:
        """Return a new ticket for one experiment."""
        text, now_s = secrets.new_secret(), self._clock.now()
        with self._lock:
            kept = {key: one for key, one in self._tickets.items() if one.expires_s > now_s}
            kept[secrets.digest(text)] = _Ticket(user_id, project, name, now_s + TICKET_S)
            self._tickets = kept
        return text

    def redeem(self, ticket: str, *, project: str, name: str, lasts_s: float) -> str:
        """Use a ticket up and return a pass, the value of the cookie.

        Raises:
            Unauthorized: It was used, has expired, or is of another experiment.
        """
        now_s = self._clock.now()
        with self._lock:
            found = self._tickets.pop(secrets.digest(ticket), None)
        here = found is not None and (found.project, found.name) == (project, name)
        if found is None or not here or found.expires_s <= now_s:
            raise errors.Unauthorized(
                "This TensorBoard link was used before, or is older than ten minutes.",
                hint="Ask for a new one: job.get_tensorboard_url().",
            )
        body = json.dumps([found.user_id, project, name, now_s + lasts_s]).encode().hex()
        return f"{body}.{self._mac(body)}"

    def holder(self, value: str, *, project: str, name: str) -> str | None:
        """Return the id of the user whose browser shows a pass; None when it is not good here."""
        body, _, mac = value.partition(".")
        if not body or not secrets.same(mac, self._mac(body)):
            return None
        user_id, *place, expires_s = json.loads(bytes.fromhex(body))
        good = place == [project, name] and float(expires_s) > self._clock.now()
        return str(user_id) if good else None

    def _mac(self, body: str) -> str:
        return hmac.new(self._key, b"tensorboard\n" + body.encode(), hashlib.sha256).hexdigest()
