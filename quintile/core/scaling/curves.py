"""What a measured curve (images per second by number of workers) says about its own shape.

For curves whose runs cannot be measured again: three simple forms of the relative step time
``t(n) = n rate(1) / rate(n)``, each fitted by least squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Term = Callable[[int], float]


@dataclass(frozen=True)
class Curve:
    """A fitted form: ``t(n) = 1 + sum of factor * term(n)``.

    ``error`` is the root of the mean square of the errors of t, ``worst`` the largest relative
    error of the images per second.
    """

    name: str
    factors: tuple[float, ...]
    terms: tuple[Term, ...]
    error: float
    worst: float

    def step(self, workers: int) -> float:
        """Return the step time of ``workers`` workers, in steps of one."""
        return 1 + sum(
            factor * term(workers) for factor, term in zip(self.factors, self.terms, strict=True)
        )


def fits(rates: Mapping[int, float], *, per_host: int) -> tuple[Curve, ...]:
    """Return the three forms, the best first.

    Args:
        rates: Images per second by number of workers, with that of 1.
        per_host: Workers in one host: up to there they share its insides, then hosts are added.
    """
    forms: dict[str, tuple[Term, ...]] = {
        "a log2(n)": (_doublings,),
        "s sqrt(2 ln n)": (_stragglers,),
        "i (min(n, g) - 1)/(g - 1) + c (n/g - 1)": (
            lambda n: (min(n, per_host) - 1) / max(1, per_host - 1),
            lambda n: max(0.0, n / per_host - 1),
        ),
    }
    times = {n: n * rates[1] / rate for n, rate in rates.items()}
    found = [_fitted(name, terms, times) for name, terms in forms.items()]
    return tuple(sorted(found, key=lambda curve: curve.error))


def _fitted(name: str, terms: tuple[Term, ...], times: Mapping[int, float]) -> Curve:
    rows = [[term(n) for term in terms] for n in times]
    above = [time - 1 for time in times.values()]
    curve = Curve(name, _least_squares(rows, above), terms, 0.0, 0.0)
    errors = [curve.step(n) - time for n, time in times.items()]
    worst = max(abs(time / curve.step(n) - 1) for n, time in times.items())
    root = math.sqrt(sum(error**2 for error in errors) / len(errors))
    return Curve(name, curve.factors, terms, root, worst)


def _least_squares(rows: Sequence[Sequence[float]], wanted: Sequence[float]) -> tuple[float, ...]:
    """Return the factors of one or two columns."""
    a = [row[0] for row in rows]
    aa, ac = _dot(a, a), _dot(a, wanted)
    if len(rows[0]) == 1:
        return (ac / aa,)
    b = [row[1] for row in rows]
    bb, ab, bc = _dot(b, b), _dot(a, b), _dot(b, wanted)
    determinant = aa * bb - ab * ab
    return ((ac * bb - bc * ab) / determinant, (bc * aa - ac * ab) / determinant)


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(left, right, strict=True))


def _doublings(workers: int) -> float:
    return math.log2(workers)


def _stragglers(workers: int) -> float:
    return math.sqrt(2 * math.log(workers))
