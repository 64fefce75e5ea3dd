"""What every route gets: the ports and shared parts of this process.

``create_app`` makes one ``Context`` and keeps it on the application; routes take it as
``ctx: context.Current``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import fastapi

from quintile import ports, settings
from quintile.adapters import outbox, readiness, signed_urls, sql, tokens_ed25519
from quintile_api import eventlog
from quintile_api.coordinator import service
from quintile_api.runs import logs


@dataclass(frozen=True)
class Context:
    """Ports and shared parts; see ``app.ApiDependencies`` for where they come from.

    ``service_token``: the secret by which sibling services and the operator call.
    ``session_key``: HMAC key of session cookies. ``api_url``: base URL as agents reach the API.
    """

    database: sql.Database
    outbox: outbox.Outbox
    objects: ports.ObjectStore
    resources: ports.ResourceStore
    events: eventlog.EventLog
    clock: ports.Clock
    verifier: tokens_ed25519.TrialTokenVerifier
    urls: signed_urls.UrlSigner
    settings: settings.ApiSettings
    coordinator: service.Coordinator
    logs: logs.LogStore
    service_token: str
    session_key: bytes
    api_url: str
    python: str
    checks: readiness.Checks


def current(request: fastapi.Request) -> Context:
    """Return the context of the application that serves this request."""
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


Current = Annotated[Context, fastapi.Depends(current)]
