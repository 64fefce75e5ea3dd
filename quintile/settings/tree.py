"""Every setting of the services, with its environment key, default and meaning.

``load`` is the one reader of the environment on the server side (a worker has its own). Keys are
``QUINTILE_<FIELD>`` and ``QUINTILE_<GROUP>__<FIELD>``; lists are comma-separated. An
unknown ``QUINTILE_`` key is an error that names the nearest known one. Groups that only services
in a cluster read are in ``cluster``.
"""

from __future__ import annotations

import difflib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import pydantic
import pydantic_settings
from pydantic import Field

from quintile.core import errors
from quintile.settings import cluster
from quintile.settings.words import Words

PREFIX = "QUINTILE_"
CLIENT_KEYS = frozenset({"QUINTILE_URL", "QUINTILE_TOKEN", "QUINTILE_PROJECT"})
"""Keys of SDK and CLI; they may be set where a server starts and mean nothing to it."""

TESTS: Final = "QUINTILE_TEST_"
"""Prefix of keys that choose what the tests run on; no setting."""

MIB = 1024 * 1024
_LINKS: Final = re.compile(r"QUINTILE_\w*(SERVICE_(HOST|PORT)\w*|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")
"""What Kubernetes sets in pods for a Service named ``quintile-*``, unless service links are off."""


class ApiSettings(pydantic.BaseModel):
    """The API service."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    allowed_hosts: Words = Field(
        default=("localhost", "127.0.0.1", "[::1]"),
        description="Host names (without port) that requests may name; `*` allows every host.",
    )
    allowed_origins: Words = Field(
        default=(), description="Origins beside our own that may send changing requests."
    )
    session_hours: int = Field(
        default=12, ge=1, le=720, description="How long a sign-in by link lasts, in hours."
    )
    body_limit_bytes: int = Field(
        default=8 * MIB, ge=1024, description="Largest JSON request body, in bytes."
    )
    bundle_limit_bytes: int = Field(
        default=50 * MIB, ge=1024, description="Largest code bundle, in bytes."
    )
    object_limit_bytes: int = Field(
        default=4096 * MIB,
        ge=1024,
        description="Largest object that an agent may put through the bytes route, in bytes.",
    )
    url_ttl_s: int = Field(
        default=4 * 3600, ge=3600, description="How long a signed object URL is good, in seconds."
    )
    join_wait_s: float = Field(
        default=20.0,
        ge=0.0,
        le=60.0,
        description="How long an agent's join waits for the other members, in seconds.",
    )
    agent_silence_s: float = Field(
        default=15.0,
        ge=1.0,
        description="Silence after which an agent counts as lost, in seconds.",
    )
    elastic_window_s: float = Field(
        default=5.0,
        ge=0.0,
        description="How long an elastic run waits for a replacement before it goes on with fewer "
        "workers, in seconds.",
    )
    elastic_cooldown_s: float = Field(
        default=30.0,
        ge=0.0,
        description="How long an elastic run keeps its size before it takes workers in, in "
        "seconds; also how long it waits for all of them at its start.",
    )
    heartbeat_flush_s: float = Field(
        default=3.0, gt=0.0, description="How often heartbeats are written down, in seconds."
    )
    tensorboard_limit: int = Field(
        default=4,
        ge=1,
        le=64,
        description="How many TensorBoards run at once; the least recently used one gives way.",
    )
    tensorboard_idle_minutes: float = Field(
        default=30.0,
        gt=0.0,
        description="How long a TensorBoard runs while nobody looks at it, in minutes.",
    )


class LogSettings(pydantic.BaseModel):
    """What the services log, and how."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="`text` for people, `json` for log collectors."
    )


class Settings(pydantic_settings.BaseSettings):
    """The root of the tree."""

    model_config = pydantic_settings.SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    home: pathlib.Path = Field(
        default_factory=lambda: pathlib.Path.home() / ".quintile",
        description="Folder of an embedded instance: databases, objects, keys, runs.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8420, ge=0, le=65535, description="Port to listen on; 0 takes any free one."
    )
    metrics_port: int = Field(
        default=9090,
        ge=0,
        le=65535,
        description="Port of the metrics of a service for Prometheus; 0: none.",
    )
    public_url: str = Field(
        default="",
        description="Address of the platform as browsers reach it: `https://quintile.example.com`.",
    )
    api_url: str = Field(
        default="http://127.0.0.1:8420",
        description="Address of the API as workers and the other services reach it.",
    )
    labeling_url: str = Field(
        default="",
        description="Address of the labeling service as API and operator reach it.",
    )
    keys: pathlib.Path = Field(
        default=pathlib.Path("/etc/quintile/keys"),
        description="Folder of the secrets of a service, a file each: `trial.pem` (operator), "
        "`trial-public.pem` (one or two keys), `session.key`, `urls.key`, `service-token`.",
    )
    admin: str = Field(
        default="admin", description="Name of the first administrator of a cluster's API."
    )
    api: ApiSettings = Field(default=ApiSettings(), description="The API service.")
    database: cluster.DatabaseSettings = Field(
        default=cluster.DatabaseSettings(), description="The database."
    )
    s3: cluster.S3Settings = Field(default=cluster.S3Settings(), description="The object store.")
    kubernetes: cluster.KubernetesSettings = Field(
        default=cluster.KubernetesSettings(), description="The cluster."
    )
    logs: LogSettings = Field(default=LogSettings(), description="Logging.")


def load(**overrides: Any) -> Settings:
    """Read the environment; ``overrides`` (from the command line) win, None means not given.

    Raises:
        InvalidSpec: A key is unknown or a value does not fit.
    """
    known = dict(keys(Settings))
    for key in sorted(os.environ):
        if key.startswith(PREFIX) and not (key in known or _is_foreign(key)):
            raise _unknown(key, known)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise errors.InvalidSpec(
            f"The setting {key} is {first.get('input')!r}: {first['msg']}.",
            hint="See docs/reference/settings.md.",
            field=key,
        ) from error
    except pydantic_settings.SettingsError as error:
        raise errors.InvalidSpec(
            f"A setting cannot be read: {error}.", hint="See docs/reference/settings.md."
        ) from error


def _is_foreign(key: str) -> bool:
    """Return whether a key means nothing to a server and may be set all the same."""
    return key in CLIENT_KEYS or key.startswith(TESTS) or _LINKS.fullmatch(key) is not None


def keys(
    model: type[pydantic.BaseModel], prefix: str = PREFIX
) -> Iterator[tuple[str, pydantic.fields.FieldInfo]]:
    """Yield every environment key with its field, groups opened."""
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
            yield from keys(annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", info


def reference() -> str:
    """Return the Markdown page of all settings; written to docs/reference/settings.md."""
    lines = ["# Settings", "", "| key | default | meaning |", "|---|---|---|"]
    for key, info in keys(Settings):
        default = "~/.quintile" if key == "QUINTILE_HOME" else _shown(info.default)
        lines.append(f"| `{key}` | `{default}` | {info.description} |")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _unknown(key: str, known: Mapping[str, object]) -> errors.InvalidSpec:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "See docs/reference/settings.md."
    return errors.InvalidSpec(
        f"The environment sets {key}, which is not a setting.", hint=hint, field=key
    )
