"""What the processes of a cluster have in common: settings turned into adapters.

Used by the composition roots of the API and of the labeling service.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import FrameType
from typing import Final, TypeVar
from urllib import parse

from quintile import logs, settings
from quintile.adapters import (
    client_kube,
    http_guard,
    key_files,
    object_s3,
    serving,
    sql,
    tokens_ed25519,
)
from quintile.core import errors

PUBLIC_KEYS: Final = "trial-public.pem"
SERVICE_TOKEN: Final = "service-token"  # noqa: S105 - the name of a file
START_S: Final = 120.0
PAUSE_S: Final = 2.0
LEAVE_S: Final = 5.0
"""How long requests are answered after SIGTERM: other pods learn by then that this one goes."""

CHATTY: Final = ("alembic", "uvicorn", "httpx", "httpcore", "urllib3")
_LOG: Final = logs.get(__name__)

MadeT = TypeVar("MadeT")


def configure_logs(wanted: settings.Settings) -> None:
    """Log as the settings say; libraries only speak up at level ``debug``."""
    logs.configure(level=wanted.logs.level, style=wanted.logs.format)
    if wanted.logs.level != "debug":
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def database_url(wanted: settings.Settings, schema: str) -> str:
    """Return the address of a service's own schema, which exists afterwards.

    Raises:
        InvalidSpec: There is no such address in the settings.
        Unavailable: The database is away.
    """
    url = wanted.database.url.get_secret_value()
    if not url:
        raise errors.InvalidSpec(
            "The setting QUINTILE_DATABASE__URL is missing.",
            hint="Write postgresql+psycopg2://USER:PASSWORD@HOST/NAME.",
            field="QUINTILE_DATABASE__URL",
        )
    return sql.in_schema(url, schema)


def open_objects(wanted: settings.Settings) -> object_s3.S3ObjectStore:
    """Return the object store; nothing is sent to it yet.

    Raises:
        InvalidSpec: Its address or a key is missing.
    """
    given = {
        "QUINTILE_S3__ENDPOINT": wanted.s3.endpoint,
        "QUINTILE_S3__ACCESS_KEY": wanted.s3.access_key.get_secret_value(),
        "QUINTILE_S3__SECRET_KEY": wanted.s3.secret_key.get_secret_value(),
    }
    for key, value in given.items():
        if not value:
            raise errors.InvalidSpec(
                f"The setting {key} is missing.", hint="See docs/services.md.", field=key
            )
    return object_s3.S3ObjectStore(
        wanted.s3.endpoint,
        wanted.s3.bucket,
        access_key=given["QUINTILE_S3__ACCESS_KEY"],
        secret_key=given["QUINTILE_S3__SECRET_KEY"],
        region=wanted.s3.region,
    )


def open_verifier(wanted: settings.Settings) -> tokens_ed25519.TrialTokenVerifier:
    """Return what checks trial tokens, by one public key or two."""
    return tokens_ed25519.TrialTokenVerifier(key_files.read(wanted.keys, PUBLIC_KEYS))


def service_token(wanted: settings.Settings) -> str:
    """Return the secret by which the services call each other."""
    return key_files.read_text(wanted.keys, SERVICE_TOKEN)


def check_cluster(client: client_kube.KubeClient) -> None:
    """Check that the API server answers.

    Raises:
        QuintileError: It does not, or refuses us.
    """
    client.get("/version")


def hosts(wanted: settings.Settings) -> tuple[str, ...]:
    """Return the host names by which we are called: as set, and those of our own addresses."""
    own = (wanted.public_url, wanted.api_url, wanted.labeling_url)
    names = [parse.urlsplit(url).hostname or "" for url in own]
    shown = [f"[{name}]" if ":" in name else name for name in names if name]
    return tuple(dict.fromkeys((*wanted.api.allowed_hosts, *shown)))


def origins(wanted: settings.Settings) -> tuple[str, ...]:
    """Return the origins that may change things: as set, and the public address."""
    parts = parse.urlsplit(wanted.public_url)
    own = (f"{parts.scheme}://{parts.netloc}",) if parts.netloc else ()
    return tuple(dict.fromkeys((*wanted.api.allowed_origins, *own)))


def patiently(make: Callable[[], MadeT], *, pause_s: float = PAUSE_S) -> MadeT:
    """Return what ``make`` returns; try again for two minutes while a part is away.

    Raises:
        QuintileError: Of the last try, or at once when waiting cannot help.
    """
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        for tries_left in reversed(range(int(START_S / PAUSE_S))):
            try:
                return make()
            except errors.Unavailable as error:
                if not tries_left or stopped.is_set():
                    raise
                _LOG.warning("waiting for a part to start", reason=str(error))
                stopped.wait(pause_s)
    finally:
        signal.signal(signal.SIGTERM, before)
    raise AssertionError("the last try returns or raises")


def serve(
    wanted: settings.Settings,
    app: http_guard.App,
    *,
    lifespan: Callable[[], AbstractAsyncContextManager[None]],
) -> None:
    """Serve until SIGTERM, then go on for a few seconds, then end. Main thread only.

    Raises:
        InvalidSpec: The port cannot be had.
    """
    listener = serving.listen(wanted.host, wanted.port)

    def on_ready() -> None:
        _LOG.info("ready", host=wanted.host, port=listener.getsockname()[1])

    def drain(hurry: threading.Event) -> None:
        _LOG.info("stopping", last_requests_s=LEAVE_S)
        hurry.wait(LEAVE_S)

    with listener:
        serving.serve(
            serving.Service(app=app, lifespan=lifespan, on_ready=on_ready, drain=drain), listener
        )


def run(main: Callable[[], None]) -> int:
    """Run a process; return its exit code, with the reason of a failure on standard error."""
    logs.configure()
    try:
        main()
    except errors.QuintileError as error:
        sys.stderr.write(f"quintile: {error}\n")
        return error.exit_code
    return 0
