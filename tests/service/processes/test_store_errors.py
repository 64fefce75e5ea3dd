"""What an object store that fails means to callers, and that the next call is a fresh one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import fastapi
import pytest

from quintile.adapters import object_s3
from quintile.core import errors
from quintile.testing import served


@dataclass
class Store:
    """Answers every request as it was told."""

    status: int = 200
    code: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def app(self) -> fastapi.FastAPI:
        made = fastapi.FastAPI()

        @made.api_route("/{path:path}", methods=["GET", "PUT", "POST", "DELETE", "HEAD"])
        async def answer(request: fastapi.Request, path: str) -> fastapi.Response:
            await request.body()
            first = request.headers.get("if-none-match", "")
            self.asked.append((request.method, path, first))
            if self.code == "html":
                return fastapi.responses.HTMLResponse("<html>no store</html>", self.status)
            body = f"<Error><Code>{self.code}</Code><Message>why</Message></Error>"
            return fastapi.Response(
                body if self.code else b"bytes", self.status, media_type="application/xml"
            )

        return made


@pytest.fixture
def store() -> Iterator[tuple[Store, served.Served, object_s3.S3ObjectStore]]:
    told = Store()
    with served.serving(told.app()) as site:
        made = object_s3.S3ObjectStore(
            site.url, "bucket", access_key="a", secret_key="b" * 8, region="us-east-1"
        )
        yield told, site, made


Made = tuple[Store, served.Served, object_s3.S3ObjectStore]


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (503, "SlowDown", errors.Unavailable, "SlowDown"),
        (507, "XMinioStorageFull", errors.StoreFull, "No room left in bucket 'bucket'"),
        (403, "XMinioAdminBucketQuotaExceeded", errors.StoreFull, "nothing was kept"),
        (403, "AccessDenied", errors.Unavailable, "refuses our key"),
        (404, "NoSuchBucket", errors.Unavailable, "has no bucket 'bucket'"),
        (502, "html", errors.Unavailable, "does not answer as it should"),
    ],
)
def test_a_failure_has_a_kind_and_the_next_call_works(
    store: Made, status: int, code: str, kind: type[errors.QuintileError], words: str
) -> None:
    told, _, objects = store
    told.status, told.code = status, code
    with pytest.raises(kind, match=words) as caught:
        objects.put("a", b"bytes")
    assert caught.value.hint
    told.status, told.code = 200, ""
    objects.put("a", b"bytes")
    assert objects.get("a") == b"bytes"
    assert told.asked[-2] == ("PUT", "bucket/a", "*")


def test_a_store_that_was_away_answers_again(store: Made) -> None:
    _, site, objects = store
    assert objects.get("a") == b"bytes"
    site.stop()
    with pytest.raises(errors.Unavailable, match="QUINTILE_S3__ENDPOINT"):
        objects.get("a")
    site.start()
    assert objects.get("a") == b"bytes"


def test_urls_name_the_store_and_never_last_longer_than_it_allows(store: Made) -> None:
    _, site, objects = store
    url = objects.url("a/b", method="PUT", ttl_s=10**9)
    assert url.startswith(f"{site.url}/bucket/a/b?")
    assert "X-Amz-Expires=604800" in url
