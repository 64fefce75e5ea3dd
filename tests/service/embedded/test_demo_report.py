"""The report of the demo, and the images it is about."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from quintile_embedded.demo import digits, report, show

RUN = report.ExperimentFigures(
    name="digits-ddp",
    mode="ddp",
    workers=2,
    phase="Succeeded",
    eval_accuracy=0.9861,
    images_per_second=3456.7,
    seconds=9.87,
)
REPORT = report.Report(
    items=1797,
    human_labels=280,
    human_label_fraction=280 / 1797,
    auto_label_accuracy=0.9974,
    target_error=0.02,
    certified_error=0.0122,
    true_error=0.0022,
    certificate_mode="crossfit",
    curve=[report.CurvePoint(0.0495, 0.9894)],
    label_seconds=12.3,
    experiments=[RUN],
    setup_seconds=0.0,
    total_seconds=61.0,
    ui="http://127.0.0.1:8420",
)


def test_the_text_says_what_the_figures_say() -> None:
    text = REPORT.text()
    for words in (
        "280 images, 15.6%",
        "99.74% right",
        "1.22% at most (crossfit), target 2.00%",
        "0.22%, within what was certified",
        "5.0% labelled   98.94% of rows right",
        "ddp, 2 workers: Succeeded, accuracy 98.61%, 3,457 images/s, 9.9 s",
        "61 s in all",
    ):
        assert words in text
    assert json.loads(REPORT.json())["experiments"][0]["workers"] == 2


@pytest.mark.parametrize(
    ("certified", "true", "words"),
    [
        (0.0122, 0.0130, "NOT within what was certified"),
        (0.0300, 0.0022, "NOT within what was certified"),
        (None, 0.0022, "certified error   none"),
    ],
)
def test_a_broken_promise_is_not_hidden(certified: float | None, true: float, words: str) -> None:
    found = dataclasses.replace(REPORT, certified_error=certified, true_error=true)
    assert words in found.text()


def test_the_images_are_the_digits_and_their_names_say_nothing() -> None:
    found = digits.load()
    bunch = datasets.load_digits()
    assert len(found.truth) == len(bunch.target) == 1797
    with zipfile.ZipFile(io.BytesIO(found.archive)) as file:
        names = file.namelist()
        assert names == sorted(found.truth)
        for place in (0, 1000, 1796):
            pixels = np.asarray(Image.open(io.BytesIO(file.read(names[place]))))
            assert np.abs(pixels / 255 * 16 - bunch.images[place]).max() < 0.04
            assert found.truth[names[place]] == str(bunch.target[place])
    assert digits.load().archive == found.archive
    lines = found.truth_csv().splitlines()
    assert (lines[0], len(lines)) == ("name,label", 1798)


def test_plain_progress_tells_begin_and_end() -> None:
    stream = io.StringIO()
    with show.choose(stream).step("Import the images") as step:
        step.update(1, 2, "half")
        step.update(2, 2, "1,797 images")
    first, last = stream.getvalue().splitlines()
    assert first == "Import the images"
    assert last.startswith("  done in ") and last.endswith(": 1,797 images")
