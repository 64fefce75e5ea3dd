"""A database that goes away under the running API and comes back: what callers see."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from quintile.adapters import signed_urls, tokens_ed25519
from quintile.testing import clock as fake_clock
from quintile.testing import objects as fake_objects
from quintile.testing import postgres, served, waiting
from quintile.testing import resources as fake_resources
from quintile_api import app as api_app
from quintile_api import eventlog
from quintile_api.identity import sign_in


class NoEvents:
    """An event log in which nothing happened."""

    def events(
        self, _namespace: str, *, kind: str = "", name: str = "", limit: int = 100
    ) -> list[eventlog.EventView]:
        del kind, name, limit
        return []


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    if postgres.wanted() != postgres.START:
        pytest.skip(f"set {postgres.KEY}={postgres.START} to test with a server that stops")
    made = postgres.Server()
    yield made
    made.close()


def test_requests_fail_while_it_is_away_and_work_again(server: postgres.Server) -> None:
    clock = fake_clock.FakeClock(1_800_000_000.0)
    signer = tokens_ed25519.TrialTokenSigner(tokens_ed25519.new_private_pem())
    app = api_app.create_app(
        api_app.ApiDependencies(
            engine_url=server.url,
            objects=fake_objects.FakeObjectStore(),
            resources=fake_resources.FakeResourceStore(clock=clock),
            events=NoEvents(),
            clock=clock,
            verifier=tokens_ed25519.TrialTokenVerifier(signer.public_pem()),
            urls=signed_urls.UrlSigner(b"u" * 32, base_url="http://localhost"),
            session_key=b"s" * 32,
            service_token="secret",
            api_url="http://localhost",
        )
    )
    database = app.state.context.database
    token = sign_in.issue_api_token(database, clock, user="admin", name="test")
    headers = {"Authorization": f"Bearer {token}"}
    with (
        served.serving(app) as site,
        httpx.Client(base_url=site.url, headers=headers, trust_env=False) as client,
    ):
        assert client.get("/readyz").status_code == 200
        assert client.get("/api/v1/me").status_code == 200
        server.stop()
        for path in ("/readyz", "/api/v1/me", "/api/v1/projects"):
            answer = client.get(path)
            assert answer.status_code == 503, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
        assert "The database: The database did not answer" in client.get("/readyz").text
        assert client.get("/healthz").status_code == 200
        made = client.post("/api/v1/projects", json={"name": "new"})
        assert made.status_code == 503
        server.start()
        waiting.until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/api/v1/me").status_code == 200
        assert client.post("/api/v1/projects", json={"name": "new"}).status_code in (200, 201)
    database.dispose()
