"""Several watches of the Kubernetes API as one: a thread each, one queue, positions by source.

The API server closes watches as it likes; each is opened again where it ended. Bookmarks move the
position of a quiet source on, so that it does not grow too old.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from quintile.adapters import client_kube
from quintile.core import errors, meta

STREAM_S: Final = 300.0
PAUSE_S: Final = 1.0
ROOM: Final = 1024


@dataclass(frozen=True)
class Source:
    """One collection to watch: where it lies, and which labels count."""

    path: str
    labels: str = ""


@dataclass(frozen=True)
class Seen:
    """One event: from which source, ``ADDED`` ..., and the document as the API server has it."""

    source: str
    type: str
    document: meta.Document


class Watches:
    """Watches of several sources, each from its own version. Close it when done.

    Args:
        client: Speaks with the API server.
        sources: What to watch, by a name of the caller's.
        positions: The version from which each source continues.
    """

    def __init__(
        self,
        client: client_kube.KubeClient,
        sources: Mapping[str, Source],
        positions: Mapping[str, str],
    ) -> None:
        self._client = client
        self._positions = dict(positions)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._streams: dict[str, client_kube.Stream] = {}
        self._found: queue.Queue[Seen | errors.QuintileError] = queue.Queue(ROOM)
        for name, source in sources.items():
            threading.Thread(
                target=self._follow, args=(name, source), name=f"watch-{name}", daemon=True
            ).start()

    @property
    def positions(self) -> dict[str, str]:
        """From where each source would continue after all that ``take`` returned."""
        with self._lock:
            return dict(self._positions)

    def take(self, *, timeout_s: float) -> Seen | None:
        """Return the next event; None when there was none in time.

        Raises:
            Gone: A position is too old; list again.
            QuintileError: A source refuses to be watched.
        """
        try:
            found = self._found.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if isinstance(found, errors.QuintileError):
            raise found
        with self._lock:
            self._positions[found.source] = str(found.document["metadata"]["resourceVersion"])
        return found

    def close(self) -> None:
        """End all watches. Idempotent; does not wait for their threads."""
        self._closed.set()
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.close()

    def _follow(self, name: str, source: Source) -> None:
        place = self.positions[name]
        while not self._closed.is_set():
            try:
                place = self._once(name, source, place)
            except errors.Unavailable as error:
                self._closed.wait(max(PAUSE_S, error.retry_after_s))
            except errors.QuintileError as error:
                self._put(error)
                return

    def _once(self, name: str, source: Source, place: str) -> str:
        """Watch until the stream ends; return from where to go on."""
        labels = {"labelSelector": source.labels} if source.labels else {}
        stream = self._client.stream(source.path, version=place, timeout_s=STREAM_S, **labels)
        with self._lock:
            self._streams[name] = stream
        if self._closed.is_set():
            stream.close()
        for event in stream:
            document: meta.Document = event["object"]
            place = str(document["metadata"]["resourceVersion"])
            if event["type"] != "BOOKMARK":
                self._put(Seen(name, str(event["type"]), document))
            elif self._found.empty():
                # Nothing of this source waits to be taken, so its position may jump.
                with self._lock:
                    self._positions[name] = place
            if self._closed.is_set():
                return place
        return place

    def _put(self, found: Seen | errors.QuintileError) -> None:
        while not self._closed.is_set():
            try:
                self._found.put(found, timeout=PAUSE_S)
            except queue.Full:
                continue
            return
