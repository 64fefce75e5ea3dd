"""What the demo writes where nobody watches live."""

from __future__ import annotations

import io

from quintile_embedded.demo import show


def test_a_line_tells_something_new_and_not_too_often() -> None:
    now_s = [100.0]
    stream = io.StringIO()
    told = [
        (3.0, 1, "round 0"),  # too soon
        (5.0, 1, "round 0"),
        (10.0, 1, "round 0"),  # nothing new
        (15.0, 2, "round 0"),
        (17.0, 3, "round 1"),  # too soon
        (20.0, 4, "round 1"),
    ]
    with show.PlainShow(stream, lambda: now_s[0]).step("Label") as step:
        for seconds, done, words in told:
            now_s[0] = 100.0 + seconds
            step.update(done, 4, words)
    assert stream.getvalue().splitlines() == [
        "Label",
        "  ... 25% round 0",
        "  ... 50% round 0",
        "  ... 100% round 1",
        "  done in 20.0 s: round 1",
    ]
