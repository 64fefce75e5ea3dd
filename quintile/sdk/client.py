"""The async client of Quintile's REST interface: typed, with safe repeats.

The SDK and the command line use it over HTTP, the labeling service also over an in-process ASGI
transport. Calls are grouped: ``client.datasets.list(project)``, ``client.trials.follow(...)``.

Every call raises the errors of ``quintile.core.errors``: what the server said, or ``Unavailable``
when it does not answer for as long as the ``patience`` lasts.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import Final, Self
from urllib import parse

import httpx

from quintile.core import datasets, errors
from quintile.core.identity import Identity
from quintile.sdk import (
    account_calls,
    dataset_calls,
    http,
    labeling_calls,
    retrying,
    run_calls,
)

TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
_TOKEN: Final = re.compile(r"[!-~]+")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class AsyncClient:
    """One server and one set of credentials.

    Args:
        base_url: As ``http://localhost:8420``.
        token: API token or service token; empty = none is sent.
        transport: Another way to reach the server (``httpx.ASGITransport``).
        patience: How long to repeat while the server is away.

    Attributes:
        accounts: Identity, tokens, projects.
        datasets: Datasets, imports, versions, splits, items.
        uploads: Uploads.
        experiments: Experiments, events, code bundles.
        trials: Trials, metrics, logs, checkpoints, artifacts.
        labeling: Labeling jobs, tasks, answers, certificates.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
        patience: retrying.Patience | None = None,
    ) -> None:
        host = _host_of(base_url)
        headers = {"User-Agent": "quintile-sdk"}
        if token:
            headers["Authorization"] = f"Bearer {_checked(token)}"
        inner = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers=headers,
            transport=transport,
            timeout=TIMEOUT,
            # A proxy of the environment must not get what is meant for this machine.
            trust_env=host not in _LOOPBACK,
        )
        self._link = http.Http(inner, patience=patience or retrying.Patience())
        self.accounts = account_calls.AccountCalls(self._link)
        self.datasets = dataset_calls.DatasetCalls(self._link)
        self.uploads = dataset_calls.UploadCalls(self._link)
        self.experiments = run_calls.ExperimentCalls(self._link)
        self.trials = run_calls.TrialCalls(self._link)
        self.labeling = labeling_calls.LabelingCalls(self._link)

    @property
    def base_url(self) -> str:
        """Return the address of the server."""
        return self._link.base_url

    async def dataset_version(
        self, project: str, dataset: str, version: int
    ) -> datasets.VersionView:
        """Return one version of a dataset; 0 = the newest."""
        return await self.datasets.version(project, dataset, version)

    def version_items(
        self, project: str, dataset: str, version: int
    ) -> AsyncIterator[datasets.ItemView]:
        """Yield all items of a version in order of id."""
        return self.datasets.all_items(project, dataset, version)

    async def create_version(
        self,
        project: str,
        dataset: str,
        wanted: datasets.VersionCreate,
        rows: Iterable[datasets.LabelRow],
    ) -> datasets.VersionView:
        """Make a version from labels; idempotent by the key in ``wanted``."""
        return await self.datasets.create_version(project, dataset, wanted, rows)

    async def identity(self, *, authorization: str = "", cookie: str = "") -> Identity:
        """Return who holds the given credentials; without any, who this client is."""
        return await self.accounts.identity(authorization=authorization, cookie=cookie)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def _host_of(base_url: str) -> str:
    try:
        parsed = parse.urlsplit(base_url)
        port = parsed.port
    except ValueError:
        raise _no_address(base_url) from None
    if parsed.scheme not in ("http", "https") or not parsed.hostname or port == 0:
        raise _no_address(base_url)
    return parsed.hostname


def _no_address(base_url: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"The address {base_url!r} is not one of a server.",
        hint="Use an address as http://localhost:8420.",
        field="QUINTILE_URL",
    )


def _checked(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise errors.InvalidSpec(
            "The token holds spaces or characters that no token has.",
            hint="Copy it again, whole and alone, into QUINTILE_TOKEN.",
            field="QUINTILE_TOKEN",
        )
    return token
