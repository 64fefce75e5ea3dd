"""The labeling service as a process of its own: ``python -m quintile_labeling.main``.

Settings come from the environment (docs/services.md). People reach it through the API's address,
which passes its paths on; it asks the API who they are.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Final

from quintile import settings
from quintile.adapters import (
    client_kube,
    clock,
    cluster_site,
    http_figures,
    resource_kube,
)
from quintile.sdk import client as sdk_client
from quintile_labeling import app, catalog, figures

COMPONENT: Final = "quintile-labeling"
SCHEMA: Final = "labeling"


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    return cluster_site.run(serve)


def serve() -> None:
    """Serve until SIGTERM.

    Raises:
        QuintileError: A setting is wrong, or a part stayed away for two minutes.
    """
    wanted = settings.load()
    cluster_site.configure_logs(wanted)
    token = cluster_site.service_token(wanted)
    known = catalog.ClientCatalog(sdk_client.AsyncClient(wanted.api_url, token=token))
    labeling = cluster_site.patiently(lambda: app.create_app(dependencies(wanted, known)))
    shown = http_figures.Figures(figures.JobFigures(labeling.state.context.database).read)
    shown.serve(wanted.host, wanted.metrics_port)

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with labeling.router.lifespan_context(labeling):
            yield
        known.close()

    cluster_site.serve(wanted, http_figures.Counted(labeling, shown), lifespan=lifespan)


def dependencies(
    wanted: settings.Settings, known: catalog.ClientCatalog
) -> app.LabelingDependencies:
    """Return the adapters that the settings describe.

    Raises:
        InvalidSpec: A setting or a key is missing or wrong.
        Unavailable: The database is away.
    """
    objects = cluster_site.open_objects(wanted)
    client = client_kube.load(agent=COMPONENT)
    return app.LabelingDependencies(
        engine_url=cluster_site.database_url(wanted, SCHEMA),
        objects=objects,
        resources=resource_kube.KubeResourceStore(client, wanted.kubernetes.namespaces),
        catalog=known,
        identities=known,
        clock=clock.SystemClock(),
        verifier=cluster_site.open_verifier(wanted),
        service_token=cluster_site.service_token(wanted),
        hosts=frozenset(cluster_site.hosts(wanted)),
        origins=frozenset(cluster_site.origins(wanted)),
        pool_size=wanted.database.pool_size,
        checks={
            "The object store": objects.check,
            "The Kubernetes API": lambda: cluster_site.check_cluster(client),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
