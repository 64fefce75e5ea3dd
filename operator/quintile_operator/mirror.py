"""A copy of some objects of the cluster in memory, kept by list and watch.

Called by ``quintile_operator.executor_kubernetes``: looking at a trial costs no request. A closed
watch is normal and goes on where it was; one that is too old lists again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

from quintile import logs
from quintile.adapters import client_kube
from quintile.core import errors, meta

PAGE: Final = 500
WATCH_S: Final = 240.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 20.0
READY_S: Final = 30.0
_LOG: Final = logs.get(__name__)

View = TypeVar("View")
Place = tuple[str, str]
"""Namespace and name."""


class Mirror(Generic[View]):
    """Views of all objects of one kind that a selector finds. Thread-safe.

    Args:
        client: Requests to the API server.
        paths: The collections to follow: one for the cluster, or one per namespace.
        selector: Label selector.
        project: Makes a view; None leaves an object out.
        groups: By what ``of`` finds a view: one thing or several, which never change.

    Attributes:
        relists: How often a whole list was read, the first times included.
    """

    def __init__(
        self,
        client: client_kube.KubeClient,
        paths: Iterable[str],
        *,
        selector: str,
        project: Callable[[meta.Document], View | None],
        groups: Callable[[View], Iterable[Hashable]],
    ) -> None:
        self._client = client
        self._selector = selector
        self._project = project
        self._groups_of = groups
        self._lock = threading.Lock()
        self._views: dict[Place, tuple[int, View]] = {}
        self._groups: dict[Hashable, set[Place]] = {}
        self._listeners: list[Callable[[View], None]] = []
        self._stopped = threading.Event()
        self._ready = {path: threading.Event() for path in paths}
        self.relists = 0

    def start(self) -> None:
        """Begin to follow."""
        for path in self._ready:
            name = f"mirror {path}"
            threading.Thread(target=self._follow, args=(path,), name=name, daemon=True).start()

    def stop(self) -> None:
        """Follow no longer; an open watch ends by itself. Idempotent."""
        self._stopped.set()

    def subscribe(self, listener: Callable[[View], None]) -> None:
        """Call ``listener`` with every view that came, changed or went."""
        with self._lock:
            self._listeners.append(listener)

    def of(self, group: Hashable) -> list[View]:
        """Return the views of a group.

        Raises:
            Unavailable: The first list was not read yet.
        """
        self._await_ready()
        with self._lock:
            return [self._views[place][1] for place in self._groups.get(group, ())]

    def all(self) -> list[View]:
        """Return all views. Raises as ``of``."""
        self._await_ready()
        with self._lock:
            return [view for _, view in self._views.values()]

    def put(self, document: meta.Document) -> None:
        """Take over an object that was just written; what the watch says later counts more."""
        self._take(document)

    def drop(self, namespace: str, name: str) -> None:
        """Forget an object that was just deleted."""
        self._remove((namespace, name))

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        for path, ready in self._ready.items():
            if not ready.wait(max(0.0, deadline - time.monotonic())):
                raise errors.Unavailable(
                    f"{path} could not be listed yet.",
                    hint="Look whether the API server answers and RBAC allows list and watch.",
                    retry_after_s=5.0,
                )

    def _follow(self, path: str) -> None:
        version, pause_s = "", FIRST_PAUSE_S
        while not self._stopped.is_set():
            try:
                version = self._watch(path, version) if version else self._list(path)
                pause_s = FIRST_PAUSE_S
            except client_kube.Gone:
                version = ""
            except errors.QuintileError as error:
                _LOG.warning("a watch is interrupted", path=path, error=str(error))
                self._stopped.wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            except Exception as error:  # the boundary of the thread; without it all is blind
                _LOG.error("a watch failed", path=path, exc_info=error)
                version = ""
                self._stopped.wait(pause_s)

    def _list(self, path: str) -> str:
        seen: set[Place] = set()
        token: str | None = None
        self.relists += 1
        while True:
            page = self._client.get(
                path, labelSelector=self._selector, limit=PAGE, **{"continue": token}
            )
            for document in page["items"]:
                seen.add(_place(document))
                self._take(document)
            token = page["metadata"].get("continue") or None
            if token is None:
                break
        version = str(page["metadata"]["resourceVersion"])
        self._forget_others(path, seen, int(version))
        self._ready[path].set()
        return version

    def _forget_others(self, path: str, seen: set[Place], version: int) -> None:
        with self._lock:
            gone = [
                place
                for place, (known, _) in self._views.items()
                if place not in seen and known <= version and _is_below(path, place[0])
            ]
        for place in gone:
            self._remove(place)

    def _watch(self, path: str, version: str) -> str:
        events = self._client.watch(
            path, version=version, timeout_s=WATCH_S, labelSelector=self._selector
        )
        for event in events:
            if self._stopped.is_set():
                break
            document = event["object"]
            version = str(document["metadata"]["resourceVersion"])
            if event["type"] == "DELETED":
                self._remove(_place(document), int(version))
            elif event["type"] != "BOOKMARK":
                self._take(document)
        return version

    def _take(self, document: meta.Document) -> None:
        place, version = _place(document), int(document["metadata"]["resourceVersion"])
        view = self._project(document)
        if view is None:
            self._remove(place)
            return
        with self._lock:
            known = self._views.get(place)
            if known is not None and known[0] >= version:
                return
            self._views[place] = (version, view)
            for group in self._groups_of(view):
                self._groups.setdefault(group, set()).add(place)
        if known is None or known[1] != view:
            self._tell(view)

    def _remove(self, place: Place, version: int | None = None) -> None:
        with self._lock:
            known = self._views.get(place)
            if known is None or (version is not None and known[0] > version):
                return
            del self._views[place]
            for group in self._groups_of(known[1]):
                self._groups[group].discard(place)
                if not self._groups[group]:
                    del self._groups[group]
        self._tell(known[1])

    def _tell(self, view: View) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(view)


def _place(document: meta.Document) -> Place:
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]


def _is_below(path: str, namespace: str) -> bool:
    return "/namespaces/" not in path or f"/namespaces/{namespace}/" in path
