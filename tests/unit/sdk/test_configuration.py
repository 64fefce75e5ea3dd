"""Which server, which token, which project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quintile.core import errors
from quintile.sdk import configuration

URL, TOKEN = "http://127.0.0.1:8420", "qt_local"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "client.json").write_text(json.dumps({"url": URL + "/", "token": TOKEN}))
    return tmp_path


def find(home: Path, **env: str) -> configuration.Connection:
    return configuration.find(env={"QUINTILE_HOME": str(home), **env})


def test_the_instance_of_this_machine(home: Path) -> None:
    assert find(home) == configuration.Connection(URL, TOKEN, "default")


def test_the_environment_wins(home: Path) -> None:
    found = find(
        home,
        QUINTILE_URL="https://quintile.example.com",
        QUINTILE_TOKEN="qt_other",
        QUINTILE_PROJECT="parts",
    )
    assert found == configuration.Connection("https://quintile.example.com", "qt_other", "parts")


def test_the_local_token_goes_to_no_other_server(home: Path) -> None:
    assert find(home, QUINTILE_URL="https://quintile.example.com").token == ""
    assert find(home, QUINTILE_URL=URL).token == TOKEN


def test_arguments_win_over_the_environment(home: Path) -> None:
    env = {"QUINTILE_HOME": str(home), "QUINTILE_URL": "http://a", "QUINTILE_TOKEN": "t"}
    found = configuration.find(url="http://b", token="u", project="p", env=env)
    assert found == configuration.Connection("http://b", "u", "p")


def test_no_server_is_known(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        find(tmp_path)
    assert "quintile up" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "x"}'])
def test_a_broken_client_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "client.json").write_text(text)
    with pytest.raises(errors.InvalidSpec, match=r"client\.json cannot be read"):
        find(tmp_path)


def test_tokens_are_not_shown() -> None:
    assert "secret" not in repr(configuration.Connection(URL, "secret"))


@pytest.mark.parametrize(
    ("env", "inside"),
    [
        ({}, False),
        ({"QUINTILE_RUN": "x"}, False),
        ({"QUINTILE_RUN": "x", "QUINTILE_AGENT_PID": "1"}, True),
    ],
)
def test_inside_of_a_rank(env: dict[str, str], inside: bool) -> None:
    assert configuration.inside_rank(env) is inside
    if inside:
        with pytest.raises(configuration.InsideWorker):
            configuration.refuse_inside_rank(env)
