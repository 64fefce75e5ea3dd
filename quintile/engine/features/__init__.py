"""Images to features without weights: pixels, gradients, colour and patch codes, then PCA.

Called by the embed round. ``describe`` does all; large pools go in chunks: ``learn`` on the rows
of ``sample_rows``, ``describe_raw`` per chunk (a multiple of 64 rows), ``whiten`` once.
"""

from quintile.engine.features.pipeline import (
    Dictionary,
    describe,
    describe_raw,
    learn,
    sample_rows,
    whiten,
)

__all__ = ["Dictionary", "describe", "describe_raw", "learn", "sample_rows", "whiten"]
