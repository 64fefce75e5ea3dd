"""TensorBoard in a real Chromium: a link opens it, it draws, and its scripts get nowhere else."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from quintile.sdk import following
from quintile.testing import browser, digit_imports, instances

pytestmark = pytest.mark.torch
NAME = "curves"
BASE = f"/api/v1/projects/default/experiments/{NAME}/tensorboard/"
SPEC: dict[str, Any] = {
    "dataset": {"name": digit_imports.DATASET, "version": 1},
    "estimator": {"builtin": {"model": "resnet8"}},
    "hparams": [{"name": "iterations", "value": "20"}, {"name": "batch_size", "value": "8"}],
    "telemetry": {"summaryEverySteps": 5},
}
TRIES = {
    "fetch('/api/v1/me').then(() => 'open', () => 'refused')": "refused",
    "fetch('../stop', {method: 'POST'}).then(() => 'open', () => 'refused')": "refused",
    "String(window.open('/'))": "null",
    "document.cookie": "",
    "fetch('data/runs').then(answer => answer.status)": 200,
}
FRAME = """
new Promise(found => {
  const frame = document.createElement('iframe');
  frame.src = '/';
  frame.onload = () => {
    let seen = 'refused';
    try { if (frame.contentDocument.querySelector('script')) seen = 'open'; } catch {}
    found(seen);
  };
  document.body.append(frame);
})
"""


@pytest.fixture
def chromium(tmp_path: pathlib.Path) -> Iterator[browser.Browser]:
    found = browser.find()
    if found is None:
        words = "No Chromium here; install it (Debian: apt-get install chromium)."
        assert os.environ.get("CI") != "true", words
        pytest.skip(words)
    with browser.Browser(found, tmp_path / "profile") as made:
        yield made


@pytest.fixture
def instance(tmp_path: pathlib.Path) -> Iterator[instances.Instance]:
    with instances.Instance(tmp_path / "home") as found:
        yield found


def train(instance: instances.Instance) -> str:
    """Run to the end; return a link."""

    async def steps() -> str:
        async with instance.client() as client:
            await digit_imports.import_digits(client, items=100, labelled=True)
            await client.experiments.create("default", {"name": NAME, "spec": SPEC})
            with anyio.fail_after(60):
                while following.phase(
                    found := await client.experiments.get("default", NAME)
                ) not in (following.TERMINAL):
                    await anyio.sleep(0.2)
            assert found.status is not None
            assert found.status.phase == "Succeeded", found.status.message
            return await client.experiments.tensorboard("default", NAME)

    return anyio.run(steps)


def test_it_draws_and_its_scripts_are_shut_in(
    chromium: browser.Browser, instance: instances.Instance
) -> None:
    link = train(instance)
    user = instance.request("GET", "/me").json()["name"]
    console = chromium.page()
    console.open(instance.request("POST", f"/users/{user}/login-link").json()["url"])
    console.wait("document.querySelector('main .page')")
    console.evaluate(f"location.hash = '#/p/default/experiments/{NAME}'")
    console.wait("document.querySelector('[aria-label=\"Time of a step\"] .legend')")
    shown = console.evaluate("document.querySelector('main').innerText")
    assert "Goodput" in shown and "forward" in shown
    # From the console's own page: a button that needs no link.
    console.wait("[...document.querySelectorAll('a.button')].some(a => a.rel === 'noopener')")
    button = "[...document.querySelectorAll('a.button')].find(a => a.rel === 'noopener')"
    assert console.evaluate(f"{button}.getAttribute('href')") == BASE

    page = chromium.page()
    page.open(link)
    page.wait(f"location.pathname === {BASE!r}")
    assert "ticket" not in page.evaluate("location.href")
    page.wait("document.body.innerText.includes('curves-t0-')")
    page.wait("document.querySelector('scalar-card line-chart')")
    for attempt, outcome in TRIES.items():
        assert page.evaluate(attempt) == outcome, attempt
    assert page.evaluate(FRAME) == "refused"
    # Signed in as a person, the same browser still reaches the API from the console's own page.
    assert console.evaluate("fetch('/api/v1/me').then(answer => answer.status)") == 200
