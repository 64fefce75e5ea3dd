"""The seams between deciding and doing. Protocols only.

Adapters live in ``quintile.adapters`` and in the services, fakes in ``quintile.testing``, one
contract suite each in ``tests/contract``.

All methods block; all are safe to call from several threads. Vendor errors never pass a port:
adapters translate them into ``quintile.core.errors``.
"""

from quintile.ports.clock import Clock
from quintile.ports.events import EventSink
from quintile.ports.executor import Executor
from quintile.ports.facts import Facts
from quintile.ports.objects import ObjectInfo, ObjectStore, Upload
from quintile.ports.resources import Listing, ResourceStore

__all__ = [
    "Clock",
    "EventSink",
    "Executor",
    "Facts",
    "Listing",
    "ObjectInfo",
    "ObjectStore",
    "ResourceStore",
    "Upload",
]
