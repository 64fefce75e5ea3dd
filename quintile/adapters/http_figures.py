"""Figures of a service for Prometheus: requests by route, and what its own tables say.

``Figures`` is the registry of one process; ``Counted`` counts the requests of an application. They
are served on a port of their own, which no ingress forwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import prometheus_client
from prometheus_client import metrics_core, registry

from quintile.adapters import http_guard
from quintile.core import errors

OTHER: Final = "other"
"""Route of a request that no route took, so that strangers cannot make up labels."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LOG: Final = logging.getLogger("quintile.figures")


@dataclass(frozen=True)
class Gauge:
    """One figure, read when it is asked for: ``values`` by label values, in order of ``labels``."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    values: dict[tuple[str, ...], float] = field(default_factory=dict)


class Figures:
    """The figures of one process.

    Args:
        read: Returns gauges from the service's own tables; called at each scrape.
    """

    def __init__(self, read: Callable[[], Iterable[Gauge]] | None = None) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)
        self.requests = prometheus_client.Counter(
            "quintile_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = prometheus_client.Histogram(
            "quintile_http_request_seconds",
            "Time until the answer began.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        if read is not None:
            self.registry.register(_Tables(read))

    def serve(self, host: str, port: int) -> None:
        """Answer ``/metrics`` in a thread of this process; nothing when ``port`` is 0."""
        if port:
            prometheus_client.start_http_server(port, addr=host, registry=self.registry)


class _Tables(registry.Collector):
    """Reads the gauges at each scrape; a database that is away leaves them out."""

    def __init__(self, read: Callable[[], Iterable[Gauge]]) -> None:
        self._read = read

    def describe(self) -> Iterable[metrics_core.Metric]:
        """Name nothing beforehand, so that registering asks no database."""
        return ()

    def collect(self) -> Iterator[metrics_core.Metric]:
        """Yield what the tables say now."""
        try:
            found = list(self._read())
        except errors.QuintileError as error:
            _LOG.warning("figures are left out", extra={"reason": str(error)})
            return
        for gauge in found:
            family = metrics_core.GaugeMetricFamily(
                f"quintile_{gauge.name}", gauge.text, labels=gauge.labels
            )
            for labels, value in gauge.values.items():
                family.add_metric(labels, value)
            yield family


class Counted:
    """ASGI middleware: counts requests by the route that took them."""

    def __init__(self, app: http_guard.App, figures: Figures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(
        self, scope: http_guard.Scope, receive: http_guard.Receive, send: http_guard.Send
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_s = time.monotonic()
        status, taken_s = 500, 0.0

        async def noting(message: http_guard.Message) -> None:
            nonlocal status, taken_s
            if message["type"] == "http.response.start":
                status, taken_s = message["status"], time.monotonic() - begun_s
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # Methods are made up by strangers as easily as paths.
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            route = scope.get("quintile.route") or getattr(scope.get("route"), "path", "") or OTHER
            self._figures.requests.labels(method, route, str(status)).inc()
            self._figures.seconds.labels(method, route).observe(
                taken_s or time.monotonic() - begun_s
            )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
