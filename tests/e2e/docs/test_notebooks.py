"""The notebooks of the examples, cell by cell, against a running platform."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from quintile.sdk import blocking
from quintile.testing import instances, notebooks

EXAMPLES = pathlib.Path(__file__).parents[3] / "examples"
pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with instances.Instance(tmp_path_factory.mktemp("notebooks") / "home") as running:
        session = blocking.connect(url=running.url, token=running.token)
        yield
        session.close()
        blocking.forget()


@pytest.mark.usefixtures("_server")
def test_training() -> None:
    names = notebooks.run(EXAMPLES / "training.ipynb")
    assert names["job"].status().mode == "ps"
    assert names["job"].report()["evaluation"]["metrics"]["accuracy"] == names["accuracy"] > 0.7


@pytest.mark.usefixtures("_server")
def test_labeling() -> None:
    names = notebooks.run(EXAMPLES / "labeling.ipynb")
    assert len(names["rows"]) == 400
    assert names["stats"].human < 0.6 * 400
    assert names["wrong"] / 400 <= 0.14


def test_every_notebook_is_tested_and_clean() -> None:
    found = sorted(EXAMPLES.rglob("*.ipynb"))
    assert [path.stem for path in found] == ["labeling", "training"]
    for path in found:
        assert '"outputs": []' in path.read_text(encoding="utf-8")
        assert 'execution_count": 1' not in path.read_text(encoding="utf-8")
