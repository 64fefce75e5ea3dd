"""One origin, two services: which paths belong to the labeling service. Pure."""

from __future__ import annotations

import re
from typing import Final

_LABELING: Final = re.compile(
    r"/api/v1/(projects/[^/]+/labeling-jobs(/|$)|internal/labeling/|labeling/)", re.ASCII
)


def is_labeling(path: str) -> bool:
    """Return whether the labeling service answers at ``path``; the API answers elsewhere."""
    return _LABELING.match(path) is not None
