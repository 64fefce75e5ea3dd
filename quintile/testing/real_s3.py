"""A real object store for tests: ``QUINTILE_TEST_S3=http://KEY:SECRET@HOST:PORT/BUCKET``.

Each test gets a bucket of its own, named after the given one, and deleted when the test is over.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import minio

from quintile.adapters import object_s3

KEY: Final = "QUINTILE_TEST_S3"
MISSING: Final = f"set {KEY}=http://KEY:SECRET@HOST:PORT/BUCKET to test on a real object store"


@dataclass(frozen=True)
class Place:
    """Where a store is, and who we are there."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def open(self) -> object_s3.S3ObjectStore:
        """Open the bucket."""
        return object_s3.S3ObjectStore(
            self.endpoint,
            self.bucket,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
        )


def place() -> Place | None:
    """Return the store that the environment names; None when it names none."""
    given = os.environ.get(KEY, "")
    if not given:
        return None
    parts = urllib.parse.urlsplit(given)
    return Place(
        endpoint=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        bucket=parts.path.strip("/"),
        access_key=urllib.parse.unquote(parts.username or ""),
        secret_key=urllib.parse.unquote(parts.password or ""),
    )


@contextlib.contextmanager
def fresh_bucket(where: Place) -> Iterator[Place]:
    """Make an empty bucket for a block."""
    parts = urllib.parse.urlsplit(where.endpoint)
    client = minio.Minio(
        parts.netloc,
        access_key=where.access_key,
        secret_key=where.secret_key,
        secure=parts.scheme == "https",
        region=where.region,
    )
    name = f"{where.bucket}-{secrets.token_hex(6)}"
    client.make_bucket(name)
    try:
        yield replace(where, bucket=name)
    finally:
        for found in client.list_objects(name, recursive=True):
            client.remove_object(name, found.object_name or "")
        client.remove_bucket(name)
