"""Forms of texts: what they take, and what a person reads when they refuse."""

from __future__ import annotations

import re

import pytest

from quintile.core import patterns

CASES: dict[str, tuple[list[str], list[str]]] = {
    patterns.NAME: (["a", "a-1", "a" * 63], ["", "A", "1a", "a_b", "a-", "a" * 64]),
    patterns.DECIMAL: (["0.02", "-1", "1e-3"], ["", "nan", "1.", ".5", "1 "]),
    patterns.SHARE: (["0", "20", "5%", "0%", "2.5%", "100%", "100.0%"], ["101%", "-1", "x", "%"]),
    patterns.SHARE_ABOVE_ZERO: (["1", "20", "0.5%", "5%", "100%"], ["0", "0%", "0.0%", "500%"]),
}


@pytest.mark.parametrize("pattern", CASES)
def test_what_is_taken_and_refused(pattern: str) -> None:
    good, bad = CASES[pattern]
    assert [text for text in good if not re.search(pattern, text)] == []
    assert [text for text in bad if re.search(pattern, text)] == []
    assert patterns.words(pattern).startswith("expected")
    assert pattern not in patterns.words(pattern)


def test_an_unknown_form_is_shown_as_it_is() -> None:
    assert patterns.words("^a+$") == "expected a text of the form ^a+$"
