"""The settings tree and its reader; logs without secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import pathlib
from collections.abc import Iterator

import pydantic
import pytest

from quintile import logs, settings
from quintile.core import errors


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in list(os.environ):
        if key.startswith("QUINTILE_"):
            monkeypatch.delenv(key)


def test_the_environment_is_read_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTILE_PORT", "9000")
    monkeypatch.setenv("QUINTILE_API__ALLOWED_HOSTS", "a.example.com, b.example.com")
    found = settings.load(port=None)
    assert found.port == 9000
    assert found.api.allowed_hosts == ("a.example.com", "b.example.com")
    assert settings.load(port=1).port == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("QUINTILE_PROT", "1", "Did you mean QUINTILE_PORT?"),
        ("QUINTILE_API__BODY_LIMIT", "1", "QUINTILE_API__BODY_LIMIT_BYTES"),
        ("QUINTILE_PORT", "many", "QUINTILE_PORT is 'many'"),
        ("QUINTILE_PORT", "70000", "65535"),
        ("QUINTILE_LOGS__LEVEL", "loud", "QUINTILE_LOGS__LEVEL is 'loud'"),
    ],
)
def test_what_is_no_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, words: str
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(errors.InvalidSpec) as caught:
        settings.load()
    assert words in str(caught.value)


def test_keys_of_the_client_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTILE_TOKEN", "qt_a_b")
    assert settings.load(home=pathlib.Path("/somewhere")).home == pathlib.Path("/somewhere")


@pytest.mark.parametrize(
    "key",
    [
        "QUINTILE_API_SERVICE_HOST",
        "QUINTILE_LABELING_SERVICE_PORT_HTTP",
        "QUINTILE_API_PORT",
        "QUINTILE_API_PORT_8420_TCP_ADDR",
        "QUINTILE_TEST_DATABASE",
    ],
)
def test_what_kubernetes_and_tests_set_is_no_error(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(key, "tcp://10.0.0.1:8420")
    assert settings.load().port == 8420


def test_a_cluster_is_described_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTILE_DATABASE__URL", "postgresql+psycopg2://q:c4n4ry@db/q")
    monkeypatch.setenv("QUINTILE_S3__SECRET_KEY", "c4n4ry")
    monkeypatch.setenv("QUINTILE_KUBERNETES__NAMESPACES", "vision, speech")
    monkeypatch.setenv("QUINTILE_KUBERNETES__EGRESS", '[{"ports": [{"port": 53}]}]')
    found = settings.load()
    assert found.database.url.get_secret_value().endswith("@db/q")
    assert found.kubernetes.namespaces == ("vision", "speech")
    assert found.kubernetes.egress == ({"ports": [{"port": 53}]},)
    assert "c4n4ry" not in repr(found)


def test_every_setting_is_described() -> None:
    page = settings.reference()
    for key, info in settings.keys(settings.Settings):
        assert info.description
        assert f"`{key}`" in page


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    made = io.StringIO()
    logs.configure(style="json", stream=made)
    yield made
    root.handlers[:] = before
    root.setLevel(level)


def test_no_secret_reaches_a_log(stream: io.StringIO) -> None:
    secret = "c4n4ry"
    logs.get("x", trial="t").info(
        "signed in",
        token=secret,
        password=pydantic.SecretStr(secret),
        key=pydantic.SecretStr(secret),
        url=f"http://localhost/api/v1/bytes/a?expires=1&signature={secret}",
        header=f"Bearer {secret}",
        text=f"used qt_ab12_{secret}",
    )
    logging.getLogger("library").warning("went to /login?token=%s", secret)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert secret not in stream.getvalue()
    assert lines[0]["trial"] == "t"
    assert lines[0]["event"] == "signed in"
    assert lines[1]["event"] == "went to /login?token=***"
