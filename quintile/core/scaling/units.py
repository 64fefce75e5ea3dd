"""Rates and delays of networks as text (``10Gbit``, ``50us``) to numbers and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from quintile.core import errors

_NUMBER = re.compile(r"^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$")
_BITS = {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12}
_BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def bytes_per_s(text: str, *, field: str = "") -> float:
    """Return bytes per second of ``10Gbit`` or ``500MB``, both per second.

    Raises:
        InvalidSpec: Not a rate, or zero.
    """
    factors = {**{unit: factor / 8 for unit, factor in _BITS.items()}, **_BYTES}
    return _parse(text, factors, kind="a rate as 10Gbit or 500MB", field=field)


def seconds(text: str, *, field: str = "") -> float:
    """Return seconds of ``50us`` or ``1ms``.

    Raises:
        InvalidSpec: Not a time, or zero.
    """
    return _parse(text, _SECONDS, kind="a delay as 50us or 1ms", field=field)


def rate_text(rate: float) -> str:
    """Return bytes per second as people write the rate of a network."""
    units = sorted(_BITS.items(), key=lambda one: one[1])
    fitting = [one for one in units if rate * 8 >= one[1]] or units[:1]
    unit, factor = fitting[-1]
    return f"{rate * 8 / factor:.3g} {unit}/s"


def time_text(value: float) -> str:
    """Return seconds as people write a short time."""
    fitting = [one for one in _SECONDS.items() if value >= one[1]] or [("ns", 1e-9)]
    unit, factor = fitting[-1]
    return f"{value / factor:.3g} {unit}"


def _parse(text: str, factors: Mapping[str, float], *, kind: str, field: str) -> float:
    match = _NUMBER.match(text.strip())
    if match is None or match.group(2) not in factors or not float(match.group(1)):
        raise errors.InvalidSpec(f"{text!r} is not {kind}, above 0.", field=field)
    return float(match.group(1)) * factors[match.group(2)]
