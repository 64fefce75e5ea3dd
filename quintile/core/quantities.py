"""Quantities as text (``500m``, ``2Gi``, ``30m``) to whole numbers and back. Pure.

Called by ``core.plan`` (cpu, memory) and by the command line (durations).
"""

from __future__ import annotations

import re
from decimal import Decimal

from quintile.core import errors

_NUMBER = re.compile(r"^(\d+(?:\.\d+)?)([A-Za-z]*)$")
_MEMORY = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_DURATION = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def cpu_millis(text: str, *, field: str = "") -> int:
    """Return thousandths of a core: ``500m`` is 500, ``2`` is 2000.

    Raises:
        InvalidSpec: Not a quantity, or below one thousandth.
    """
    return _parse(text, {"": 1000, "m": 1}, kind="a cpu quantity as 500m or 2", field=field)


def memory_bytes(text: str, *, field: str = "") -> int:
    """Return bytes: ``2Gi`` is 2147483648, ``1G`` is 1000000000.

    Raises:
        InvalidSpec: Not a quantity, or below one byte.
    """
    return _parse(text, _MEMORY, kind="a memory quantity as 512Mi or 2Gi", field=field)


def duration_s(text: str, *, field: str = "") -> int:
    """Return whole seconds: ``90``, ``90s``, ``15m``, ``2h``, ``7d``.

    Raises:
        InvalidSpec: Not a duration, or below one second.
    """
    return _parse(text, _DURATION, kind="a duration as 90s, 15m or 2h", field=field)


def cpu_text(millis: int) -> str:
    """Return the shortest text of ``millis`` thousandths of a core."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def memory_text(size_bytes: int) -> str:
    """Return the shortest exact text of a size, in binary units."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size_bytes >= _MEMORY[unit] and size_bytes % _MEMORY[unit] == 0:
            return f"{size_bytes // _MEMORY[unit]}{unit}"
    return str(size_bytes)


def duration_text(seconds: int) -> str:
    """Return the shortest exact text of whole seconds."""
    for unit in ("d", "h", "m"):
        if seconds >= _DURATION[unit] and seconds % _DURATION[unit] == 0:
            return f"{seconds // _DURATION[unit]}{unit}"
    return f"{seconds}s"


def _parse(text: str, factors: dict[str, int], *, kind: str, field: str) -> int:
    found = _NUMBER.match(text)
    if found is None or found.group(2) not in factors:
        units = ", ".join(unit for unit in factors if unit)
        raise errors.InvalidSpec(
            f"{text!r} is not {kind}.", hint=f"Use a number with one of: {units}.", field=field
        )
    exact = Decimal(found.group(1)) * factors[found.group(2)]
    if exact < 1 or exact >= 2**63:
        raise errors.InvalidSpec(
            f"{text!r} is out of range for {kind}.",
            hint="Use a larger or smaller number.",
            field=field,
        )
    return int(exact)
