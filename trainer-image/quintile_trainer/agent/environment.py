"""The agent's environment, read once at its start."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quintile_trainer.agent import peers

LOG_QUOTA_BYTES = 256 * 1024 * 1024
SMALLEST_QUOTA_BYTES = 4 * 1024 * 1024


class BadEnvironment(Exception):
    """A variable that the plan must set is missing or unreadable."""


@dataclass(frozen=True)
class AgentEnv:
    """What the plan and the Executor told this agent.

    ``members`` counts replicas by role, of which ``least`` workers are enough in an elastic run
    (0: all are needed), ``procs`` is how many ranks this replica runs, ``program``
    is the JSON that the ranks get, ``away_limit_s`` how long the API may be away,
    ``log_quota_bytes`` what the logs of one rank may take on the disk,
    ``zygote_after_s`` how long ranks train before they get a zygote (infinite: they never do),
    ``interface`` the network interface by which ranks reach each other, empty when unknown,
    ``exit_file`` where the exit record goes besides (in a pod, to the kubelet), None for nowhere.
    """

    api_url: str
    token: str
    trial_uid: str
    attempt: int
    role: str
    index: int
    members: dict[str, int]
    least: int
    procs: int
    mode: str
    max_in_place: int
    host: str
    grace_s: float
    program: dict[str, Any]
    state_dir: Path
    cache_dir: Path
    away_limit_s: float
    heartbeat_s: float
    zygote_after_s: float
    log_quota_bytes: int
    interface: str
    exit_file: Path | None


def load(variables: Mapping[str, str]) -> AgentEnv:
    """Return the agent's settings.

    Raises:
        BadEnvironment: Names the variable that is missing or wrong.
    """
    state_dir = Path(_text(variables, "QUINTILE_STATE_DIR"))
    host = variables.get("QUINTILE_HOST") or "127.0.0.1"
    return AgentEnv(
        api_url=_text(variables, "QUINTILE_API_URL").rstrip("/"),
        token=_text(variables, "QUINTILE_TOKEN"),
        trial_uid=_text(variables, "QUINTILE_TRIAL_UID"),
        attempt=_number(variables, "QUINTILE_ATTEMPT"),
        role=_text(variables, "QUINTILE_ROLE"),
        index=_number(variables, "QUINTILE_INDEX"),
        members=_json(variables, "QUINTILE_MEMBERS"),
        least=_number(variables, "QUINTILE_LEAST") if variables.get("QUINTILE_LEAST") else 0,
        procs=_number(variables, "QUINTILE_PROCS"),
        mode=_text(variables, "QUINTILE_MODE"),
        max_in_place=_number(variables, "QUINTILE_MAX_IN_PLACE"),
        host=host,
        grace_s=_decimal(variables, "QUINTILE_GRACE_S", 60.0),
        program=_json(variables, "QUINTILE_PROGRAM"),
        state_dir=state_dir,
        cache_dir=_cache_dir(variables, state_dir),
        away_limit_s=_decimal(variables, "QUINTILE_AWAY_LIMIT_S", 1800.0),
        heartbeat_s=_decimal(variables, "QUINTILE_HEARTBEAT_S", 2.0),
        zygote_after_s=_zygote_after_s(variables),
        log_quota_bytes=_quota_bytes(variables),
        interface="lo" if peers.is_loopback(host) else peers.interface(host),
        exit_file=exit_file(variables),
    )


def exit_file(variables: Mapping[str, str]) -> Path | None:
    """Return where the exit record goes besides the state folder, None for nowhere."""
    given = variables.get("QUINTILE_EXIT_FILE")
    return Path(given) if given else None


def _cache_dir(variables: Mapping[str, str], state_dir: Path) -> Path:
    given = variables.get("QUINTILE_CACHE_DIR") or variables.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "quintile-shards"
    home = Path(variables.get("HOME") or "/nonexistent")
    if os.access(home, os.W_OK):
        return home / ".cache" / "quintile-shards"
    return state_dir / "cache"


def _zygote_after_s(variables: Mapping[str, str]) -> float:
    if variables.get("QUINTILE_ZYGOTE_AFTER_S") == "0":
        return math.inf
    return _decimal(variables, "QUINTILE_ZYGOTE_AFTER_S", 10.0)


def _quota_bytes(variables: Mapping[str, str]) -> int:
    if not variables.get("QUINTILE_LOG_QUOTA_BYTES"):
        return LOG_QUOTA_BYTES
    quota = _number(variables, "QUINTILE_LOG_QUOTA_BYTES")
    if quota < SMALLEST_QUOTA_BYTES:
        raise BadEnvironment(
            f"QUINTILE_LOG_QUOTA_BYTES is {quota}; expected {SMALLEST_QUOTA_BYTES} or more"
        )
    return quota


def _text(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name, "")
    if not value:
        raise BadEnvironment(f"{name} is not set; the plan of the attempt sets it")
    return value


def _number(variables: Mapping[str, str], name: str) -> int:
    value = _text(variables, name)
    try:
        return int(value)
    except ValueError as error:
        raise BadEnvironment(f"{name} is {value!r}; expected a whole number") from error


def _decimal(variables: Mapping[str, str], name: str, default: float) -> float:
    text = variables.get(name) or str(default)
    try:
        value = float(text)
    except ValueError as error:
        raise BadEnvironment(f"{name} is {text!r}; expected seconds") from error
    if not 0 < value < float("inf"):
        raise BadEnvironment(f"{name} is {text!r}; expected seconds above 0")
    return value


def _json(variables: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(variables, name))
    except ValueError as error:
        raise BadEnvironment(f"{name} holds no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadEnvironment(f"{name} holds {type(value).__name__}; expected a JSON object")
    return value
