"""One platform for a test, with the SDK of this process connected to it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from quintile.testing import instances


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[instances.Instance]:
    with instances.connected(tmp_path / "home") as running:
        yield running
