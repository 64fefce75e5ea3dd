"""Quantities: texts to whole numbers and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import errors, quantities


@pytest.mark.parametrize(
    ("text", "millis"),
    [("500m", 500), ("2", 2000), ("0.5", 500), ("1.25", 1250), ("1m", 1), ("64", 64_000)],
)
def test_cpu(text: str, millis: int) -> None:
    assert quantities.cpu_millis(text) == millis


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("2Gi", 2**31),
        ("512Mi", 2**29),
        ("1G", 10**9),
        ("1k", 1000),
        ("1.5Gi", 3 * 2**29),
        ("2Ti", 2**41),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert quantities.memory_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604_800), ("1.5h", 5400)],
)
def test_duration(text: str, seconds: int) -> None:
    assert quantities.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1", "1 Gi", "1e3", "Gi", "1gi", "one", "1.2.3", " 1"])
def test_what_is_no_quantity_is_refused_with_its_field(text: str) -> None:
    for parse in (quantities.cpu_millis, quantities.memory_bytes, quantities.duration_s):
        with pytest.raises(errors.InvalidSpec) as caught:
            parse(text, field="spec.run.resources.cpu")
        assert caught.value.field == "spec.run.resources.cpu"
        assert caught.value.hint


@pytest.mark.parametrize("text", ["0", "0.0001", "99999999999999999999"])
def test_what_is_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidSpec, match="out of range"):
        quantities.cpu_millis(text)


@given(st.integers(1, 2**50))
def test_texts_come_back_exactly(number: int) -> None:
    assert quantities.cpu_millis(quantities.cpu_text(number)) == number
    assert quantities.memory_bytes(quantities.memory_text(number)) == number
    assert quantities.duration_s(quantities.duration_text(number)) == number


@pytest.mark.parametrize(
    ("text", "shortest"),
    [("1000m", "1"), ("1500m", "1500m"), ("1024Mi", "1Gi"), ("1000", "1000"), ("3600", "1h")],
)
def test_texts_are_the_shortest_exact_ones(text: str, shortest: str) -> None:
    if text.endswith("m"):
        assert quantities.cpu_text(quantities.cpu_millis(text)) == shortest
    elif shortest.endswith("h"):
        assert quantities.duration_text(quantities.duration_s(text)) == shortest
    else:
        assert quantities.memory_text(quantities.memory_bytes(text)) == shortest
