"""The operator as a process: ``python -m quintile_operator.main``; settings from the environment.

Waits for the Lease, then puts the reconciler together with the adapters of a cluster and drives
it until it is told to stop, loses the Lease, or finds its watch dead. docs/operator.md lists the
exit codes.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Final

from quintile import logs, settings
from quintile.adapters import (
    client_kube,
    clock,
    events_kube,
    facts_http,
    key_files,
    lease_kube,
    resource_kube,
    secrets_kube,
    tokens_ed25519,
)
from quintile.core import errors, meta
from quintile_operator import (
    canary,
    executor_kubernetes,
    figures,
    gate,
    handlers,
    health,
    lease,
    loop,
    parts,
    preflight,
    projection,
    reconciler,
    sources,
)
from quintile_operator.manifests import pods

COMPONENT: Final = "quintile-operator"
PYTHON: Final = "python"
"""The interpreter of the trainer's image."""

LOOK_S: Final = 0.5
RETRY_S: Final = 2.0
PODS_S: Final = 0.3
"""Pods of a trial come, change and go together: one look for all of them."""

GIB: Final = 2**30

STOPPED: Final = 0
UNFORESEEN: Final = 1
BAD_SETTINGS: Final = 2
NO_KINDS: Final = 3
NO_RIGHTS: Final = 4
LEASE_LOST: Final = 5
WATCH_DEAD: Final = 6

_LOG: Final = logs.get(__name__)


@dataclass(frozen=True)
class Site:
    """What this process was told, and what all its parts share."""

    wanted: settings.Settings
    client: client_kube.KubeClient
    figures: figures.Figures
    canary: canary.Canary
    stopped: threading.Event


@dataclass(frozen=True)
class Operator:
    """Everything that works while the Lease is held."""

    loop: loop.Loop
    executor: executor_kubernetes.KubernetesExecutor
    facts: facts_http.HttpFacts

    def stop(self) -> bool:
        """Stop writing; return whether surely nothing is written any more."""
        quiet = self.loop.stop()
        self.executor.close()
        self.facts.close()
        return quiet


def main() -> int:
    """Run until told to stop; return the exit code."""
    logs.configure()
    try:
        wanted = settings.load()
        logs.configure(level=wanted.logs.level, style=wanted.logs.format)
        handlers.quieten()
        return run(wanted, _stop_on_signals())
    except preflight.NoKinds as error:
        return _refuse(error, NO_KINDS)
    except errors.Forbidden as error:
        return _refuse(error, NO_RIGHTS)
    except (errors.InvalidSpec, errors.Unauthorized) as error:
        return _refuse(error, BAD_SETTINGS)
    except errors.QuintileError as error:
        return _refuse(error, UNFORESEEN)


def run(wanted: settings.Settings, stopped: threading.Event) -> int:
    """Check the cluster, wait for the Lease, work; return the exit code.

    Raises:
        QuintileError: The operator cannot work at all.
    """
    client = client_kube.load(agent=COMPONENT)
    site = Site(wanted, client, figures.Figures(), canary.Canary(), stopped)
    client.subscribe(site.figures.requested)
    elector = lease.Elector(
        lease_kube.KubeLease(
            client, namespace=wanted.kubernetes.namespace, name=wanted.kubernetes.lease_name
        ),
        identity=f"{socket.gethostname()}-{secrets.token_hex(4)}",
        timing=lease.Timing.of(wanted.kubernetes.lease_s),
    )
    _add_gauges(site, elector)
    served = health.Health(
        wanted.host,
        tuple(dict.fromkeys((wanted.port, wanted.metrics_port))),
        problem=lambda: _problem(site),
        figures=lambda: (site.figures.text(), figures.CONTENT_TYPE),
    )
    try:
        _check(site)
        _LOG.info("waiting for the Lease", addresses=served.addresses)
        if not elector.acquire(stopped):
            return STOPPED
        return _lead(site, elector)
    finally:
        served.close()


def build(site: Site) -> Operator:
    """Put the working parts together; watches of pods begin, nothing is written yet.

    Raises:
        InvalidSpec: A key or a setting cannot be used.
    """
    wanted, now = site.wanted, clock.SystemClock()
    places = wanted.kubernetes.namespaces
    store = resource_kube.KubeResourceStore(site.client, places or None)
    facts = facts_http.HttpFacts(
        wanted.api_url,
        wanted.labeling_url or wanted.api_url,
        key_files.read_text(wanted.keys, "service-token"),
    )
    executor = executor_kubernetes.KubernetesExecutor(
        site.client, pod_site(wanted.kubernetes), clock=now, namespaces=places
    )
    watched = projection.Projection(store, site.canary)
    allowed = secrets_kube.WorkerSecrets(site.client)
    marks: list[loop.Loop] = []
    looks = reconciler.Reconciler(
        parts.Parts(
            resources=watched,
            executor=executor,
            facts=facts,
            events=events_kube.KubeEventSink(site.client, now, COMPONENT),
            clock=now,
            minter=tokens_ed25519.TrialTokenSigner(key_files.read(wanted.keys, "trial.pem")),
            api_url=wanted.api_url,
            python=PYTHON,
            gate=gate.Gate(watched, lambda key: marks[0].mark(key), allowed.check),
        )
    )
    pace = loop.Pace()

    def seen(event: str, document: meta.Document) -> bool:
        site.figures.saw(document["kind"], event)
        return watched.seen(event, document)

    origins = (
        handlers.KopfSource(places, (*reconciler.KINDS, *gate.KINDS), seen=seen),
        sources.FactsTail(facts, pace),
        sources.Resync(pace),
    )
    driver = loop.Loop(looks, origins, pace=pace, watcher=site.figures)
    marks.append(driver)
    executor.subscribe(lambda key: driver.mark(key, delay_s=PODS_S))
    return Operator(driver, executor, facts)


def pod_site(wanted: settings.KubernetesSettings) -> pods.PodSite:
    """Return what the settings say about the pods of trials."""
    return pods.PodSite(
        image=wanted.worker_image,
        service_account=wanted.worker_service_account,
        pull_policy=wanted.worker_pull_policy,
        pull_secrets=wanted.worker_pull_secrets,
        user=wanted.worker_user,
        scratch_bytes=round(wanted.worker_scratch_gib * GIB),
        memory_bytes=round(wanted.worker_memory_gib * GIB),
        pending_deadline_s=wanted.worker_pending_deadline_s,
        network_policies=wanted.network_policies,
        egress=wanted.egress,
    )


def _lead(site: Site, elector: lease.Elector) -> int:
    _LOG.info("this operator leads", namespaces=site.wanted.kubernetes.namespaces or "all")
    renewing = threading.Thread(target=_renew, args=(site, elector), name="lease", daemon=True)
    renewing.start()
    made = build(site)
    site.figures.gauge("queue_depth", "Keys that wait for a look.", lambda: made.loop.depth)
    site.figures.gauge("workers_busy", "Keys looked at now.", lambda: made.loop.busy)
    site.figures.gauge(
        "child_relists", "Whole lists of pods and Jobs so far.", lambda: made.executor.relists
    )
    made.loop.start()
    while not site.stopped.wait(LOOK_S):
        if not elector.holds:
            _leave("the Lease is lost; another operator may lead", LEASE_LOST)
        if site.canary.is_dead():
            _leave("the watch of our kinds is dead; a new process begins anew", WATCH_DEAD)
    _LOG.info("stopping")
    if made.stop():
        renewing.join(RETRY_S * 2)
        elector.release()
    return STOPPED


def _renew(site: Site, elector: lease.Elector) -> None:
    try:
        elector.keep(site.stopped)
    except errors.QuintileError as error:
        _leave(str(error), LEASE_LOST)


def _leave(why: str, code: int) -> None:
    """End this process at once: not one write may follow."""
    _LOG.error("the operator ends", why=why, exit_code=code)
    sys.stderr.flush()
    os._exit(code)


def _check(site: Site) -> None:
    """Wait until the API server answers, then check kinds and rights."""
    chosen = site.wanted.kubernetes
    scope = preflight.Scope(chosen.namespaces, chosen.namespace, chosen.lease_name)
    while not site.stopped.is_set():
        try:
            preflight.check(site.client, scope)
        except errors.Unavailable as error:
            _LOG.warning("the API server is away", error=str(error))
            site.stopped.wait(RETRY_S)
            continue
        return


def _add_gauges(site: Site, elector: lease.Elector) -> None:
    site.figures.gauge("leader", "1 in the operator at work.", lambda: float(elector.holds))
    site.figures.gauge(
        "watch_owes_seconds",
        "For how long the watch owes a write of ours; it ends the process above 45.",
        site.canary.silent_s,
    )


def _problem(site: Site) -> str:
    if not site.canary.is_dead():
        return ""
    return f"the watch owes a write of ours for {site.canary.silent_s():.0f} s"


def _stop_on_signals() -> threading.Event:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


def _refuse(error: errors.QuintileError, code: int) -> int:
    _LOG.error("the operator cannot work", error=error.message, hint=error.hint, exit_code=code)
    return code


if __name__ == "__main__":
    sys.exit(main())
