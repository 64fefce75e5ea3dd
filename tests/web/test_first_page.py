"""The first page in a real Chromium against a real instance: sign in, look, label by keyboard."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from quintile.testing import browser, digit_imports, instances

ITEMS = 80
JOB = "digits-labels"
SPEC: dict[str, Any] = {
    "dataset": {"name": digit_imports.DATASET, "version": 1},
    "labels": [str(digit) for digit in range(10)],
    "target": {"error": "0.2", "random": "30"},
    "budget": {"maxHumanLabels": "60"},
}
ANSWERED = "Number(document.querySelector('.easel .bar').innerText.match(/(\\d+) answered/)[1])"
SAVED = "document.querySelector('.easel .bar').innerText.includes('saved')"
NAME = "document.querySelector('.easel .bar .grow').innerText"


@pytest.fixture(scope="module")
def program() -> str:
    found = browser.find()
    if found is None:
        words = "No Chromium here; install it (Debian: apt-get install chromium)."
        assert os.environ.get("CI") != "true", words
        pytest.skip(words)
    return found


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[instances.Instance]:
    with instances.Instance(tmp_path_factory.mktemp("web") / "home") as found:
        yield found


@pytest.fixture
def page(
    program: str, instance: instances.Instance, tmp_path: pathlib.Path
) -> Iterator[browser.Page]:
    """A signed-in page; whatever it complained about fails the test."""
    with browser.Browser(program, tmp_path / "profile") as chromium:
        found = chromium.page()
        user = instance.request("GET", "/me").json()["name"]
        link = instance.request("POST", f"/users/{user}/login-link").json()["url"]
        found.open(link)
        found.wait("document.querySelector('main .page')")
        yield found
        known = re.compile("404|ERR_INTERNET_DISCONNECTED")
        unexpected = [line for line in found.complaints() if not known.search(line)]
        assert unexpected == []


def go(page: browser.Page, address: str, ready: str) -> None:
    page.evaluate(f"location.hash = {address!r}")
    page.wait(ready)


def text(page: browser.Page) -> str:
    found: str = page.evaluate("document.querySelector('main').innerText")
    return found


def prepare(instance: instances.Instance) -> None:
    async def steps() -> None:
        async with instance.client() as client:
            await digit_imports.import_digits(client, items=ITEMS, labelled=False)
            await client.labeling.create("default", {"name": JOB, "spec": SPEC})

    anyio.run(steps)


def test_signed_out_people_learn_how_to_get_in(
    program: str, instance: instances.Instance, tmp_path: pathlib.Path
) -> None:
    with browser.Browser(program, tmp_path / "profile") as chromium:
        page = chromium.page(dark=True)
        page.open(f"{instance.url}/login?token=used-before")
        page.wait("document.querySelector('.welcome')")
        assert "That link was used before" in text(page)
        assert "quintile link" in text(page)
        assert not [line for line in page.complaints() if "401" not in line]


def test_an_empty_instance_says_the_next_command(page: browser.Page) -> None:
    for words in ("No labeling job yet.", "No experiment yet.", "No dataset yet."):
        assert words in text(page)
    assert "quintile dataset import" in text(page)


def test_a_person_labels_by_keyboard(page: browser.Page, instance: instances.Instance) -> None:
    prepare(instance)
    page.wait(f"document.querySelector('main').innerText.includes('{JOB}')")
    assert "Running status" in text(page)
    go(
        page,
        f"#/p/default/labeling/{JOB}/label",
        "document.querySelector('.picture img')?.naturalWidth",
    )
    truth = digit_imports.truth(ITEMS)
    shown: list[str] = []
    for count in range(1, 13):
        name = page.evaluate(NAME)
        assert name not in shown
        shown.append(name)
        page.press(truth[name])
        page.wait(f"{ANSWERED} === {count}")
    page.wait(SAVED)
    stats = instance.request("GET", f"/projects/default/labeling-jobs/{JOB}/stats").json()
    assert (stats["human"], stats["decisions"]) == (12, 12)
    page.press("Backspace")
    page.wait(f"{ANSWERED} === 11")
    assert page.evaluate(NAME) == shown[-1]
    page.press("x")
    page.wait(f"{ANSWERED} === 12 && {SAVED}")
    stats = instance.request("GET", f"/projects/default/labeling-jobs/{JOB}/stats").json()
    assert sum(stats["by_class"].values()) == 11
    items = instance.request("GET", f"/projects/default/labeling-jobs/{JOB}/items?limit=500")
    people = [one for one in items.json()["items"] if one["source"] == "human"]
    labels = {one["name"]: one["label"] for one in people}
    assert all(truth[name] == label for name, label in labels.items() if label is not None)
    assert set(labels) <= set(shown)


def test_a_tab_that_dies_offline_leaves_its_work_to_the_next(
    page: browser.Page, instance: instances.Instance
) -> None:
    label = f"#/p/default/labeling/{JOB}/label"
    go(page, label, "document.querySelector('.picture img')?.naturalWidth")
    address = page.evaluate("location.href")
    before = instance.request("GET", f"/projects/default/labeling-jobs/{JOB}/stats").json()
    truth, shown = digit_imports.truth(ITEMS), page.evaluate(NAME)
    page.call("Network.enable")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline)
    page.press(truth[shown])
    page.wait("document.querySelector('.easel .bar').innerText.includes('1 kept here')")
    waiting = page.evaluate(NAME)
    second = page.again()
    second.open(address)
    second.wait("document.querySelector('main').innerText.includes('open in another tab')")
    page.close()
    second.close()
    third = page.again()
    third.open(address)
    third.wait("document.querySelector('.picture img')?.naturalWidth")
    third.wait(SAVED)
    assert third.evaluate(NAME) == waiting
    after = instance.request("GET", f"/projects/default/labeling-jobs/{JOB}/stats").json()
    assert after["human"] == before["human"] + 1
    assert third.complaints() == []


def test_ids_where_the_browser_makes_none(page: browser.Page) -> None:
    page.evaluate("Object.defineProperty(crypto, 'randomUUID', { value: undefined })")
    made = page.evaluate(
        "import('/js/labeling/client.js').then(({ randomId }) => [randomId(), randomId()])"
    )
    assert len(set(made)) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made)


def test_every_view_draws(page: browser.Page, instance: instances.Instance) -> None:
    go(page, f"#/p/default/labeling/{JOB}", "document.querySelector('.tiles')")
    assert re.search(r"1[123] of 80 images", text(page))
    go(page, "#/p/default/datasets/digits", "document.querySelector('.gallery img')?.naturalWidth")
    assert "v1" in text(page)
    spec = {"estimator": {"builtin": {}}, "dataset": {"name": "digits", "version": 1}}
    made = instance.request(
        "POST", "/projects/default/experiments", json={"name": "first", "spec": spec}
    )
    assert made.status_code == 201
    go(page, "#/p/default/experiments/first", "document.querySelector('.headline .chip')")
    page.wait("document.querySelector('main').innerText.includes('Failed')")
    assert "label some" in text(page)
    go(page, "#/p/default", "document.querySelectorAll('tbody tr').length >= 3")
