"""The API as a process of its own: ``python -m quintile_api.main``; with ``--help`` its tools.

Settings come from the environment (docs/services.md). The database's schema is made and migrated
at the start, the projects are the namespaces of the settings, and the labeling service's paths
are passed on to it, so that this one address is the whole platform.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final

import fastapi

from quintile import settings
from quintile.adapters import (
    client_kube,
    clock,
    cluster_site,
    events_kube,
    http_figures,
    http_guard,
    key_files,
    resource_kube,
    signed_urls,
    sql,
)
from quintile_api import app, figures, forwarding, migrations
from quintile_api.identity import sign_in

COMPONENT: Final = "quintile-api"
SCHEMA: Final = "api"
PYTHON: Final = "python"
"""The interpreter of the trainer's image, for dry runs."""

TOKEN_NAME: Final = "made by admin-token"  # noqa: S105 - the name of a token, not its text
TOOLS: Final = {
    "serve": "serve until SIGTERM",
    "admin-link": "print a link that signs the first administrator in, once",
    "admin-token": "print an API token of the first administrator, good for a year",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a tool; return the exit code."""
    parser = argparse.ArgumentParser(prog="quintile_api.main", description=__doc__)
    parser.add_argument(
        "tool",
        nargs="?",
        default="serve",
        choices=tuple(TOOLS),
        help="; ".join(f"{name}: {text}" for name, text in TOOLS.items()),
    )
    tool = parser.parse_args(arguments).tool
    return cluster_site.run(serve if tool == "serve" else lambda: print_secret(tool))


def serve() -> None:
    """Serve until SIGTERM.

    Raises:
        QuintileError: A setting is wrong, or a part stayed away for two minutes.
    """
    wanted = settings.load()
    cluster_site.configure_logs(wanted)
    api = cluster_site.patiently(lambda: app.create_app(dependencies(wanted)))
    shown = http_figures.Figures(figures.RunFigures(api.state.context.database).read)
    shown.serve(wanted.host, wanted.metrics_port)
    front = Front(api, wanted, shown)
    cluster_site.serve(wanted, front.app, lifespan=front.lifespan)


def dependencies(wanted: settings.Settings) -> app.ApiDependencies:
    """Return the adapters that the settings describe.

    Raises:
        InvalidSpec: A setting or a key is missing or wrong.
        Unavailable: The database is away.
    """
    now, objects = clock.SystemClock(), cluster_site.open_objects(wanted)
    client = client_kube.load(agent=COMPONENT)
    projects = wanted.kubernetes.namespaces
    return app.ApiDependencies(
        engine_url=cluster_site.database_url(wanted, SCHEMA),
        objects=objects,
        resources=resource_kube.KubeResourceStore(client, projects),
        events=events_kube.KubeEventSink(client, now, COMPONENT),
        clock=now,
        verifier=cluster_site.open_verifier(wanted),
        urls=signed_urls.UrlSigner(
            key_files.read(wanted.keys, "urls.key"), base_url=wanted.api_url
        ),
        session_key=key_files.read(wanted.keys, "session.key"),
        service_token=cluster_site.service_token(wanted),
        api_url=wanted.api_url,
        settings=wanted.api.model_copy(
            update={
                "allowed_hosts": cluster_site.hosts(wanted),
                "allowed_origins": cluster_site.origins(wanted),
            }
        ),
        admin=wanted.admin,
        projects=projects,
        python=PYTHON,
        pool_size=wanted.database.pool_size,
        checks={
            "The object store": objects.check,
            "The Kubernetes API": lambda: cluster_site.check_cluster(client),
        },
    )


class Front:
    """What is served: the API, the labeling service behind it, and both counted."""

    def __init__(
        self, api: fastapi.FastAPI, wanted: settings.Settings, shown: http_figures.Figures
    ) -> None:
        self._api = api
        self._forwarder = forwarding.Forwarder(api, wanted.labeling_url)
        served = self._forwarder if wanted.labeling_url else api
        self.app: http_guard.App = http_figures.Counted(served, shown)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run the API's background work."""
        async with self._api.router.lifespan_context(self._api):
            yield
        await self._forwarder.close()


def print_secret(tool: str) -> None:
    """Print a link or a token of the first administrator to standard output.

    Raises:
        QuintileError: The database is away, or a setting is wrong.
    """
    wanted = settings.load()
    cluster_site.configure_logs(wanted)
    database = sql.Database(sql.create_engine(cluster_site.database_url(wanted, SCHEMA)))
    migrations.migrate(database.engine)
    now, projects = clock.SystemClock(), wanted.kubernetes.namespaces
    admin = sign_in.seed(database, now, admin=wanted.admin, projects=projects)
    if tool == "admin-token":
        text = sign_in.issue_api_token(database, now, user=admin, name=TOKEN_NAME)
    else:
        token = sign_in.issue_login_token(database, now, user=admin)
        text = f"{wanted.public_url.rstrip('/') or LOCAL}/login?token={token}"
    sys.stdout.write(f"{text}\n")
    database.dispose()


LOCAL: Final = "http://localhost:8420"
"""Where a port-forward of the service is found."""


if __name__ == "__main__":
    sys.exit(main())
