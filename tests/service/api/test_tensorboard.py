"""TensorBoard behind the API: who gets in, what it shows, what it never learns, when it ends."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from quintile.core import errors
from quintile.testing import waiting
from quintile_api.identity import repository
from quintile_api.tensorboard import boards, event_sync, process, proxy

E = "/api/v1/projects/default/experiments"
BOARD = f"{E}/digits/tensorboard"
PARENT = """
import pathlib, sys, time
from quintile_api.tensorboard import process
board = process.Process(pathlib.Path(sys.argv[1]), prefix="/p")
board.start()
print(board._process.pid, flush=True)
time.sleep(100)
"""


@pytest.fixture
def running(world: Any) -> Iterator[boards.Boards]:
    found: boards.Boards = world.app.state.tensorboard.boards
    yield found
    found.stop()


@pytest.fixture
def trained(trial: Any) -> Any:
    """A trial that did steps 1 to 3, lost them from 2 on, and did them again."""
    first, second = trial.agents()
    first.join()
    assert second.join()["state"] == "running"
    first.join()
    first.metrics((0, 1, 0.5), (1, 2, 0.4))
    first.checkpoint(2)
    first.metrics((2, 3, 0.3))
    first.beat(step=3)
    second.exit(139)
    first.join()
    second.join()
    assert first.join()["generation"] == 2
    first.metrics((0, 3, 0.25))
    return first


def points(client: Any, tag: str = "loss") -> list[tuple[int, float]]:
    runs = client.get(f"{BOARD}/data/runs").json()
    if not runs:
        return []
    query = {"run": runs[0], "tag": tag}
    answer = client.get(f"{BOARD}/data/plugin/scalars/scalars", params=query)
    if answer.status_code != 200:
        return []
    return [(step, round(value, 4)) for _time, step, value in answer.json()]


def test_the_curves_are_those_that_count_and_grow_with_the_run(
    world: Any, trained: Any, running: boards.Boards
) -> None:
    admin = world.admin()
    admin.post(BOARD)
    waiting.until(lambda: points(admin) == [(1, 0.5), (2, 0.4), (3, 0.25)])
    trained.metrics((1, 4, 0.125))
    waiting.until(lambda: points(admin)[-1:] == [(4, 0.125)])
    assert list(running.running().values()) == ["digits"]


def test_looking_around_starts_nothing(world: Any, trial: Any, running: boards.Boards) -> None:
    admin = world.admin()
    for path in (E, f"{E}/digits", "/api/v1/projects/default/trials"):
        assert admin.get(path).status_code == 200
    assert admin.get(f"{BOARD}/data/runs").status_code == 503
    assert admin.post(f"{BOARD}/data/plugin/timeseries/timeSeries").status_code == 503
    assert running.running() == {}
    assert admin.get(f"{BOARD}/").status_code == 200
    assert list(running.running().values()) == ["digits"]


def test_a_link_opens_one_board_in_one_browser_once(
    world: Any, trial: Any, running: boards.Boards
) -> None:
    del running
    viewer = world.member("viewer")
    link = viewer.post(BOARD).json()["url"]
    browser = world.anonymous()
    assert browser.get(f"{BOARD}/").status_code == 401
    opened = browser.get(link)
    assert (opened.status_code, opened.headers["location"]) == (303, f"{BOARD}/")
    flags = opened.headers["set-cookie"]
    assert "HttpOnly" in flags
    assert f"Path={BOARD}/" in flags
    assert browser.get(f"{BOARD}/").status_code == 200
    assert browser.post(f"{BOARD}/data/plugin/timeseries/timeSeries").status_code != 401
    # Nothing else opens to it, also not the board of another experiment.
    world.experiment("other")
    for path in (E, f"{E}/digits", f"{E}/other/tensorboard/", "/api/v1/me"):
        answer = browser.get(path, headers={"Cookie": flags.partition(";")[0]})
        assert answer.status_code == 401, path
    assert world.anonymous().get(link).status_code == 401
    stale = viewer.post(BOARD).json()["url"]
    world.clock.sleep(601)
    assert world.anonymous().get(stale).status_code == 401


def test_a_pass_ends_with_the_membership_and_with_time(
    world: Any, trial: Any, running: boards.Boards
) -> None:
    del running
    link = world.member("viewer").post(BOARD).json()["url"]
    browser = world.anonymous()
    browser.get(link)
    assert browser.get(f"{BOARD}/").status_code == 200
    with world.ctx.database.write() as session:
        repository.set_member(session, "default", "viewer", None)
    assert browser.get(f"{BOARD}/").status_code == 404
    with world.ctx.database.write() as session:
        repository.set_member(session, "default", "viewer", "viewer")
    assert browser.get(f"{BOARD}/").status_code == 200
    world.clock.sleep(13 * 3600)
    assert browser.get(f"{BOARD}/").status_code == 401


def test_a_browser_may_read_by_post_and_nothing_else_without_the_header(
    world: Any, trial: Any, running: boards.Boards
) -> None:
    del running
    browser = world.browser()
    del browser.headers["x-quintile-csrf"]
    assert browser.get(f"{BOARD}/").status_code == 200
    assert browser.post(f"{BOARD}/data/plugin/timeseries/timeSeries").status_code != 403
    foreign = {"Origin": "https://example.com"}
    assert browser.post(f"{BOARD}/x", headers=foreign).status_code == 403
    for path in (BOARD, f"{E}/digits/stop"):
        assert browser.post(path).status_code == 403


def test_pages_may_call_their_own_address_alone(
    world: Any, trial: Any, running: boards.Boards
) -> None:
    del running
    answer = world.admin().get(f"{BOARD}/")
    policies = answer.headers.get_list("content-security-policy")
    own = f"localhost{BOARD}/"
    assert any(f"connect-src {own};" in policy for policy in policies)
    assert any(policy.startswith("sandbox allow-scripts ") for policy in policies)
    assert not any("allow-popups" in policy for policy in policies)
    with pytest.raises(errors.InvalidSpec, match="IPv6"):
        proxy.safe_headers("[::1]:8420", BOARD)


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the headers it got, and tries to leave some of its own."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()})
        self.send_response(302)
        self.send_header("Set-Cookie", "quintile_session=forged")
        self.send_header("Location", "/api/v1/me")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_arguments: Any) -> None:
        pass

    def address_string(self) -> str:
        return ""


def test_credentials_stay_here_and_nothing_is_planted(
    world: Any, trial: Any, running: boards.Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pathlib.Path(tempfile.mkdtemp())  # short: addresses of sockets are
    with socketserver.ThreadingUnixStreamServer(str(folder / "socket"), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(running, "find", lambda _place: folder / "socket")
        admin = world.admin()
        headers = {"Cookie": "quintile_session=secret", "X-Quintile-CSRF": "1", "X-Other": "1"}
        answer = admin.get(f"{BOARD}/anything", headers=headers)
        server.shutdown()
        thread.join()
    seen = answer.json()
    assert not {"cookie", "authorization", "x-quintile-csrf", "x-other", "referer"} & set(seen)
    assert not {"set-cookie", "location", "access-control-allow-origin"} & set(answer.headers)


def place(name: str) -> boards.Place:
    return boards.Place("default", name, uid=name, prefix=f"/{name}")


def test_few_run_at_once_and_idle_ones_end(world: Any) -> None:
    now = [0.0]
    made = boards.Boards(
        world.ctx.database, world.resources, limit=2, idle_s=1800, now=lambda: now[0]
    )
    try:
        sockets = {}
        for number, name in enumerate(("one", "two")):
            now[0] = float(number)
            sockets[name] = made.open(place(name))
        now[0] = 10.0
        assert made.find(place("one")) == sockets["one"]
        made.open(place("three"))
        assert sorted(made.running()) == ["one", "three"]
        waiting.until(lambda: not sockets["two"].parent.exists())
        now[0] = 1900.0
        waiting.until(lambda: made.running() == {})
        waiting.until(lambda: not sockets["one"].parent.exists())
        assert made.open(place("two")).exists()
    finally:
        made.stop()
    assert made.running() == {}


def test_one_that_died_is_started_again(world: Any) -> None:
    made = boards.Boards(world.ctx.database, world.resources, limit=2, idle_s=1800)
    try:
        first = made.open(place("one"))
        board = made._boards["one"]
        assert board.process._process is not None
        board.process._process.kill()
        board.process._process.wait()
        second = made.open(place("one"))
        assert second != first
        transport = httpx.HTTPTransport(uds=str(second), verify=False)
        with httpx.Client(transport=transport) as client:
            assert client.get("http://board/one/data/runs").json() == []
    finally:
        made.stop()


def test_it_dies_with_its_server() -> None:
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert pathlib.Path(f"/proc/{pid}").exists()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    waiting.until(lambda: not _lives(pid))


def test_what_a_killed_server_left_is_swept_away(tmp_path: pathlib.Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone, mine = tmp_path / f"quintile-tb-{ended.pid}-x", tmp_path / f"quintile-tb-{os.getpid()}-x"
    other = tmp_path / "quintile-tb-notes"
    for path in (gone, mine, other):
        path.mkdir()
    boards.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])


def test_without_tensorboard_the_refusal_says_so(
    world: Any, trial: Any, running: boards.Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda _name: None)
    answer = world.admin().post(BOARD)
    assert answer.status_code == 503
    assert "pip install tensorboard" in answer.json()["hint"]


def test_values_that_cannot_be_drawn_are_told_apart() -> None:
    drawn = event_sync.drawable({"lost": None, "huge": 1e300, "fine": 1.5})
    assert str(drawn) == "{'lost': nan, 'fine': 1.5}"


def _lives(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
