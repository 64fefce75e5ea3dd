"""One BLAS and OpenMP thread, so that sums have one order and results are byte-identical.

Every public function of the engine that multiplies matrices wraps itself in ``single``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import threadpoolctl  # type: ignore[import-untyped]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def single(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return ``function`` running under one BLAS and OpenMP thread."""

    @functools.wraps(function)
    def limited(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with threadpoolctl.threadpool_limits(limits=1):
            return function(*args, **kwargs)

    return limited
