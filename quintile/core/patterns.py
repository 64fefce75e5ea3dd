"""The forms that texts must have, as regular expressions and in words. Pure.

The wire models refuse by the expressions; ``words`` is what a person reads instead of one.
"""

from __future__ import annotations

from typing import Final

NAME: Final = r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
DECIMAL: Final = r"^-?\d+(\.\d+)?([eE]-?\d+)?$"
VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
SHA256: Final = r"^[0-9a-f]{64}$"
OBJECT_NAME: Final = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
LABEL_KEY: Final = (
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
MOUNT_PATH: Final = r"^/(data|mnt|secrets|srv|workspace)(/[A-Za-z0-9_-][-A-Za-z0-9_.]*)*$"
SHARE: Final = r"^((100(\.0+)?|\d{1,2}(\.\d+)?)%|\d+)$"
SHARE_ABOVE_ZERO: Final = r"^((100(\.0+)?|[1-9]\d?(\.\d+)?|0\.\d*[1-9]\d*)%|[1-9]\d*)$"

_WORDS: Final = {
    NAME: "expected small letters, digits and '-', a letter first, at most 63 characters",
    DECIMAL: "expected a number, as 0.02",
    VARIABLE: "expected letters, digits and '_', no digit first, at most 128 characters",
    SHA256: "expected a SHA-256: 64 characters of 0-9 and a-f",
    OBJECT_NAME: "expected small letters, digits, '-' and '.', at most 253 characters",
    LABEL_KEY: "expected a label's name, as team or example.com/team",
    LABEL_VALUE: "expected letters, digits, '-', '_' and '.', at most 63 characters",
    MOUNT_PATH: "expected a folder in /data, /mnt, /secrets, /srv or /workspace",
    SHARE: "expected a count, as 20, or a percentage up to 100%, as 5%",
    SHARE_ABOVE_ZERO: "expected a count of 1 or more, as 20, or a percentage up to 100%, as 5%",
}


def words(pattern: str) -> str:
    """Return what a form expects, in words; of an unknown one the expression."""
    return _WORDS.get(pattern, f"expected a text of the form {pattern}")
