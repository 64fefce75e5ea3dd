"""Figures of the operator for Prometheus; docs/operator.md says what each one means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import prometheus_client
from prometheus_client import exposition, process_collector

from quintile.core import meta

CONTENT_TYPE: Final = exposition.CONTENT_TYPE_LATEST
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_COLLECTIONS: Final = ("namespaces", "apis", "api")


class Figures:
    """Counters and gauges of one process. Thread-safe."""

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        process_collector.ProcessCollector(registry=self._registry)
        self._looks = self._counter("looks", "Looks at a resource.", "kind", "outcome")
        self._look_s = prometheus_client.Histogram(
            "quintile_operator_look_seconds",
            "Seconds that a look at a resource took.",
            ("kind",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._requests = self._counter(
            "api_requests", "Requests to the API server.", "verb", "resource", "code"
        )
        self._request_s = prometheus_client.Histogram(
            "quintile_operator_api_request_seconds",
            "Seconds to the answer of the API server, watches apart.",
            ("verb",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._events = self._counter(
            "watch_events", "What the watch told of our kinds.", "kind", "type"
        )

    def looked(self, key: meta.Key, *, seconds: float, failed: bool) -> None:
        """Note one look; a ``loop.Watcher``."""
        self._looks.labels(key.kind, "failed" if failed else "done").inc()
        self._look_s.labels(key.kind).observe(seconds)

    def requested(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note one request; a ``client_kube.Listener``."""
        self._requests.labels(method, resource_of(path), str(status)).inc()
        self._request_s.labels(method).observe(seconds)

    def saw(self, kind: str, event: str) -> None:
        """Note one event of the watch."""
        self._events.labels(kind, event).inc()

    def gauge(self, name: str, words: str, read: Callable[[], float]) -> None:
        """Add a value that is read when somebody asks."""
        made = prometheus_client.Gauge(f"quintile_operator_{name}", words, registry=self._registry)
        made.set_function(read)

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return prometheus_client.generate_latest(self._registry)

    def _counter(self, name: str, words: str, *labels: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(
            f"quintile_operator_{name}", words, labels, registry=self._registry
        )


def resource_of(path: str) -> str:
    """Return the resource that a path of the API server is about, as ``trials/status``."""
    parts = [part for part in path.partition("?")[0].split("/") if part]
    # /api/v1/... or /apis/GROUP/VERSION/...
    rest = parts[2:] if parts[:1] == ["api"] else parts[3:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    if not rest:
        return "discovery"
    return f"{rest[0]}/{rest[2]}" if len(rest) > 2 else rest[0]
