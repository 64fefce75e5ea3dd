"""Port ``EventSink`` on the Events of a Kubernetes cluster; readable as the API reads events.

Equal events are one object with a count: its name is made of what it says, so that a restart goes
on counting. At most ``BURST`` writes at once and one a second are spent on one object; what comes
beyond that is counted here and written with the next write. The cluster forgets events by itself.
"""

from __future__ import annotations

import collections
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from quintile import ports
from quintile.adapters import client_kube
from quintile.core import conditions, errors, meta, runplan
from quintile.core.events import EventView

MESSAGE_BYTES: Final = 1024
REASON_LIMIT: Final = 128
KEEP: Final = 4096
"""How many distinct events are remembered for counting; the oldest go first."""

BURST: Final = 25
REFILL_S: Final = 1.0


@dataclass
class _Known:
    """One distinct event: how often it was seen, and how much of that was written."""

    event: runplan.Event
    first_s: float
    last_s: float
    count: int = 0
    written: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is counted and written: a slow write holds up equal events, no others."""


class KubeEventSink:
    """Events beside the resources that they are about. Blocking; thread-safe.

    Args:
        client: Speaks with the API server.
        clock: Gives times.
        component: Who reports, as ``quintile-operator``.
    """

    def __init__(self, client: client_kube.KubeClient, clock: ports.Clock, component: str) -> None:
        self._client = client
        self._clock = clock
        self._component = component
        self._known: collections.OrderedDict[str, _Known] = collections.OrderedDict()
        self._spent: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def emit(self, event: runplan.Event) -> None:
        """Record an event; an equal one is counted.

        Raises:
            Unavailable: The API server is away or refuses; the event is counted, and written
                with the next equal one.
        """
        now_s = self._clock.now()
        with self._lock:
            known, may_write = self._remember(event, now_s), self._may_write(event.uid, now_s)
        with known.lock:
            known.count += 1
            known.last_s = now_s
            if may_write:
                self._write(known)

    def events(
        self, namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> Sequence[EventView]:
        """Return the newest events of a namespace about our kinds, newest first."""
        with self._lock:
            own = [known for known in self._known.values() if known.event.namespace == namespace]
        for known in own:
            with known.lock:
                if known.written < known.count:
                    self._write(known)
        selectors = [f"involvedObject.{key}={value}" for key, value in _given(kind, name)]
        query = {"fieldSelector": ",".join(selectors)} if selectors else {}
        items = self._client.get(_path(namespace), **query)["items"]
        ours = [item for item in items if _about(item).get("apiVersion") == meta.API_VERSION]
        ours.sort(key=_age, reverse=True)
        return [_view(item) for item in ours[:limit]]

    def _remember(self, event: runplan.Event, now_s: float) -> _Known:
        name = _name(event)
        known = self._known.pop(name, None)
        if known is None:
            known = _Known(event, first_s=now_s, last_s=now_s)
        self._known[name] = known
        while len(self._known) > KEEP:
            self._known.popitem(last=False)
        return known

    def _may_write(self, uid: str, now_s: float) -> bool:
        """Take a token of an object's bucket, if there is one."""
        left, when_s = self._spent.pop(uid, (float(BURST), now_s))
        left = min(float(BURST), left + max(0.0, now_s - when_s) / REFILL_S)
        self._spent[uid] = (max(left - 1.0, 0.0) if left >= 1.0 else left, now_s)
        while len(self._spent) > KEEP:
            self._spent.pop(next(iter(self._spent)))
        return left >= 1.0

    def _write(self, known: _Known) -> None:
        try:
            if known.written == 0:
                self._create(known)
            else:
                self._count(known)
        except errors.Unavailable:
            raise
        except errors.QuintileError as error:
            raise errors.Unavailable(f"The event was not recorded: {error}") from error
        known.written = known.count

    def _create(self, known: _Known) -> None:
        body = _body(known, self._component)
        try:
            self._client.create(_path(known.event.namespace), body)
        except errors.Conflict:
            # Counted by a process before this one, or by another one at this moment.
            found = self._client.get(f"{_path(known.event.namespace)}/{_name(known.event)}")
            known.count += int(found.get("count") or 1)
            self._count(known)

    def _count(self, known: _Known) -> None:
        said = {"count": known.count, "lastTimestamp": conditions.timestamp(known.last_s)}
        try:
            self._client.patch(f"{_path(known.event.namespace)}/{_name(known.event)}", said)
        except errors.NotFound:
            # The cluster has forgotten it; this is the first one again.
            known.count, known.first_s = known.count - known.written, known.last_s
            self._client.create(_path(known.event.namespace), _body(known, self._component))


def _body(known: _Known, component: str) -> meta.Document:
    event = known.event
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": _name(event), "namespace": event.namespace},
        "involvedObject": {
            "apiVersion": meta.API_VERSION,
            "kind": event.kind,
            "namespace": event.namespace,
            "name": event.name,
            "uid": event.uid,
        },
        "type": event.type,
        "reason": conditions.clip(event.reason, REASON_LIMIT),
        "message": clip_bytes(event.message, MESSAGE_BYTES),
        "count": known.count,
        "firstTimestamp": conditions.timestamp(known.first_s),
        "lastTimestamp": conditions.timestamp(known.last_s),
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": component,
    }


def clip_bytes(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` bytes as UTF-8, an ellipsis where it was cut."""
    whole = text.encode()
    if len(whole) <= limit:
        return text
    return whole[: limit - 3].decode(errors="ignore") + "…"


def _name(event: runplan.Event) -> str:
    place = (event.kind, event.namespace, event.name, event.uid)
    parts = (*place, event.type, event.reason, event.message)
    return f"{event.name}.{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}"


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/events"


def _given(kind: str, name: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in (("kind", kind), ("name", name)) if value]


def _about(item: meta.Document) -> dict[str, Any]:
    return dict(item.get("involvedObject") or {})


def _age(item: meta.Document) -> tuple[str, int]:
    last = item.get("lastTimestamp") or item["metadata"].get("creationTimestamp") or ""
    return str(last), int(item["metadata"]["resourceVersion"])


def _view(item: meta.Document) -> EventView:
    about = _about(item)
    first = item.get("firstTimestamp") or item["metadata"]["creationTimestamp"]
    last = item.get("lastTimestamp") or first
    return EventView(
        kind=str(about.get("kind", "")),
        namespace=str(item["metadata"]["namespace"]),
        name=str(about.get("name", "")),
        uid=str(about.get("uid", "")),
        type="Warning" if item.get("type") == "Warning" else "Normal",
        reason=str(item.get("reason", "")),
        message=str(item.get("message", "")),
        count=int(item.get("count") or 1),
        first_time=conditions.seconds(first),
        last_time=conditions.seconds(last),
    )
