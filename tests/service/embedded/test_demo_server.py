"""The demo against a platform that runs already."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http import server as http_server

import pytest

from quintile.core import errors
from quintile_embedded.demo import server


class Ready(http_server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def address() -> Iterator[str]:
    served = http_server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    thread.join()
    served.server_close()


def test_the_environment_names_it(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("QUINTILE_URL", f"{address}/")
    monkeypatch.setenv("QUINTILE_TOKEN", "secret")
    monkeypatch.setenv("QUINTILE_PROJECT", "team-a")
    found = server.known()
    assert (found.url, found.token, found.project) == (address, "secret", "team-a")
    found.wait_ready()
    found.stop()


def test_nothing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("QUINTILE_URL", raising=False)
    monkeypatch.setenv("QUINTILE_HOME", str(tmp_path))
    with pytest.raises(errors.Unavailable, match="QUINTILE_URL"):
        server.known()


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READY_S", 0.0)
    with pytest.raises(errors.Unavailable, match="did not answer"):
        server.Known("http://127.0.0.1:1", "secret", "team-a").wait_ready()
