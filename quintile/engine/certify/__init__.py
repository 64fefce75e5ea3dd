"""Certificates: exact bounds on how wrong the machine's labels are. Called by ``rounds``.

The random stratum R is a simple random sample of items. For each of its rows we know the answer
of people and what the machine, not having seen that answer, would have said and how surely.
From that follow the bound, the accepted share and the words. ``verify`` re-checks all of it.
"""

from quintile.engine.certify.bounds import lower_count, smallest_sample, upper_count
from quintile.engine.certify.certificate import Certificate, settle, settled_outcome
from quintile.engine.certify.decide import Issued, certify, positions, verify
from quintile.engine.certify.table import RandomRows, ScoreTable
from quintile.engine.certify.target import Target

__all__ = [
    "Certificate",
    "Issued",
    "RandomRows",
    "ScoreTable",
    "Target",
    "certify",
    "lower_count",
    "positions",
    "settle",
    "settled_outcome",
    "smallest_sample",
    "upper_count",
    "verify",
]
