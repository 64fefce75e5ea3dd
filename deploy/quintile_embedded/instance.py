"""Puts the platform together in this process: adapters, both services, the reconciler and its loop.

The only module that knows which adapters ``quintile up`` uses. ``build`` makes everything and
starts nothing; ``Instance.lifespan`` starts and stops.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import fastapi
import httpx

from quintile import logs, settings
from quintile.adapters import (
    clock,
    events_sql,
    facts_joined,
    http_guard,
    object_directory,
    resource_sql,
    signals,
    signed_urls,
    sql,
    tokens_ed25519,
)
from quintile.sdk import client as sdk_client
from quintile_api import app as api_app
from quintile_api import facts as api_facts
from quintile_api.identity import sign_in
from quintile_embedded import dispatch, listening
from quintile_embedded import home as homes
from quintile_labeling import app as labeling_app
from quintile_labeling import catalog
from quintile_labeling import facts as labeling_facts
from quintile_operator import executor_process, loop, parts, reconciler, sources

PROJECT: Final = "default"
IN_PROCESS: Final = "http://localhost"
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
SUSPEND_GRACE_S: Final = 60.0
RECALL_GRACE_S: Final = 2.0
LIVE: Final = ("pending", "running")
HURRY_POLL_S: Final = 0.1
_LOG: Final = logs.get(__name__)


@dataclass(frozen=True)
class Site:
    """Where an instance lives, and what it was told."""

    wanted: settings.Settings
    home: homes.Home
    address: listening.Address
    keys: homes.Keys
    admin: str


@dataclass(frozen=True)
class Stores:
    """The adapters that hold state, shared by all parts."""

    clock: clock.SystemClock
    database: sql.Database
    objects: object_directory.DirectoryObjectStore
    resources: resource_sql.SqlResourceStore
    events: events_sql.SqlEventSink
    urls: signed_urls.UrlSigner
    signer: tokens_ed25519.TrialTokenSigner


@dataclass(frozen=True)
class Instance:
    """Everything that runs in the process. ``admin`` is the name of the first administrator."""

    stores: Stores
    api: fastapi.FastAPI
    labeling: fastapi.FastAPI
    catalog: catalog.ClientCatalog
    executor: executor_process.ProcessExecutor
    loop: loop.Loop
    url: str
    admin: str

    @property
    def app(self) -> http_guard.App:
        """The application to serve."""
        return dispatch.Dispatcher(self.api, self.labeling)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Start the services, then the reconciler; stop in the other order. Agents stay."""
        async with dispatch.Dispatcher(self.api, self.labeling).lifespan():
            self.loop.start()
            try:
                yield
            finally:
                self.loop.stop()
                self.executor.close()
        self.catalog.close()
        self.stores.database.dispose()
        self.stores.objects.close()

    def drain(self, hurry: threading.Event) -> None:
        """Ask all runs to save their state and go, while the API still answers them."""
        self.loop.stop()
        leaving = threading.Thread(
            target=self.executor.suspend, kwargs={"grace_s": SUSPEND_GRACE_S}, daemon=True
        )
        leaving.start()
        while leaving.is_alive() and not hurry.is_set():
            leaving.join(HURRY_POLL_S)

    def recall(self) -> None:
        """End agents of the last start: the address that they call is no longer ours.

        Does not wait. Replicas that are gone without a trace are started again, uncounted.
        """
        for uid, key in self.executor.trials().items():
            if any(seen.state in LIVE for seen in self.executor.observe(uid)):
                _LOG.info("agents of another address are ended", trial=str(key))
                self.executor.delete(uid, grace_s=RECALL_GRACE_S)

    def login_link(self) -> str:
        """Return a one-time sign-in link of the first administrator."""
        context = self.api.state.context
        token = sign_in.issue_login_token(context.database, context.clock, user=self.admin)
        return f"{self.url}/login?token={token}"

    def ensure_client_token(self, known: str, *, name: str) -> str:
        """Return an API token for programs on this machine: ``known``, if it is still good."""
        context = self.api.state.context
        if known and sign_in.is_token_good(context.database, context.clock, known):
            return known
        return sign_in.issue_api_token(context.database, context.clock, user=self.admin, name=name)


def build(site: Site) -> Instance:
    """Open the stores, migrate the databases, make all parts. Nothing runs yet.

    Raises:
        QuintileError: A database or key cannot be used, or the disk is full.
    """
    with sql.translated():
        return _build(site)


def _build(site: Site) -> Instance:
    stores = _open_stores(site)
    api = api_app.create_app(_api_dependencies(site, stores))
    context = api.state.context
    admin = sign_in.seed(context.database, context.clock, admin=site.admin, projects=(PROJECT,))
    client = sdk_client.AsyncClient(
        IN_PROCESS,
        token=site.keys.service_token,
        transport=httpx.ASGITransport(app=api, raise_app_exceptions=False),
    )
    known = catalog.ClientCatalog(client)
    labeling = labeling_app.create_app(_labeling_dependencies(site, stores, known))
    joined = _join_facts(api, labeling)
    executor = executor_process.ProcessExecutor(
        site.home.runs, clock=stores.clock, cache_dir=site.home.cache
    )
    reconcile = reconciler.Reconciler(
        parts.Parts(
            resources=stores.resources,
            executor=executor,
            facts=joined,
            events=stores.events,
            clock=stores.clock,
            minter=stores.signer,
            api_url=site.address.url,
        )
    )
    driver = loop.Loop(reconcile, sources.local(stores.resources, joined, loop.Pace()))
    executor.subscribe(driver.mark)
    return Instance(
        stores=stores,
        api=api,
        labeling=labeling,
        catalog=known,
        executor=executor,
        loop=driver,
        url=site.address.url,
        admin=admin,
    )


def _open_stores(site: Site) -> Stores:
    now = clock.SystemClock()
    database = sql.Database(sql.create_engine(site.home.database("resources")))
    urls = signed_urls.UrlSigner(site.keys.urls, base_url=site.address.url)
    return Stores(
        clock=now,
        database=database,
        objects=object_directory.DirectoryObjectStore(site.home.store, urls=urls, clock=now),
        resources=resource_sql.SqlResourceStore(database, clock=now),
        events=events_sql.SqlEventSink(database, clock=now),
        urls=urls,
        signer=tokens_ed25519.TrialTokenSigner(site.keys.trial_pem),
    )


def _api_dependencies(site: Site, stores: Stores) -> api_app.ApiDependencies:
    return api_app.ApiDependencies(
        engine_url=site.home.database("api"),
        objects=stores.objects,
        resources=stores.resources,
        events=stores.events,
        clock=stores.clock,
        verifier=tokens_ed25519.TrialTokenVerifier(stores.signer.public_pem()),
        urls=stores.urls,
        session_key=site.keys.session,
        service_token=site.keys.service_token,
        api_url=site.address.url,
        settings=_api_settings(site),
        admin=site.admin,
        projects=(PROJECT,),
    )


def _api_settings(site: Site) -> settings.ApiSettings:
    """Return the settings with the hosts by which this machine itself calls."""
    own = site.wanted.api
    hosts = dict.fromkeys((*own.allowed_hosts, *LOCAL_HOSTS, site.address.reachable))
    return own.model_copy(update={"allowed_hosts": tuple(hosts)})


def _labeling_dependencies(
    site: Site, stores: Stores, known: catalog.ClientCatalog
) -> labeling_app.LabelingDependencies:
    chosen = _api_settings(site)
    return labeling_app.LabelingDependencies(
        engine_url=site.home.database("labeling"),
        objects=stores.objects,
        resources=stores.resources,
        catalog=known,
        identities=known,
        clock=stores.clock,
        verifier=tokens_ed25519.TrialTokenVerifier(stores.signer.public_pem()),
        service_token=site.keys.service_token,
        hosts=frozenset(chosen.allowed_hosts),
        origins=frozenset(chosen.allowed_origins),
    )


def _join_facts(api: fastapi.FastAPI, labeling: fastapi.FastAPI) -> facts_joined.JoinedFacts:
    bell = signals.Signal()
    first, second = api.state.context, labeling.state.context
    first.outbox.ring(bell)
    second.outbox.ring(bell)
    return facts_joined.JoinedFacts(
        api_facts.TrialFactsReader(first.database, first.outbox),
        labeling_facts.JobFactsReader(second),
        bell=bell,
    )
