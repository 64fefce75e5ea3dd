"""Computes a certificate again from stored scores, with the engine of the platform."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from quintile.core import errors, tasks


def read(path: Path) -> bytes:
    """Return a scores file.

    Raises:
        InvalidSpec: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.InvalidSpec(
            f"{path} cannot be read: {error.strerror}.", field="scores"
        ) from error


def check(found: tasks.CertificateView, scores: bytes) -> None:
    """Check that a certificate follows from its scores.

    Raises:
        RunFailed: It does not; lists what differs.
        InvalidSpec: The engine's libraries are not installed here.
    """
    digest = hashlib.sha256(scores).hexdigest()
    if digest != found.scores_sha256:
        raise errors.RunFailed(
            f"The scores have SHA-256 {digest[:12]}…, the certificate names "
            f"{found.scores_sha256[:12]}….",
            hint="These are not the scores that the certificate was made from.",
            reason="ScoresDiffer",
        )
    try:
        import numpy as np

        from quintile.engine import certify
    except ModuleNotFoundError as error:
        raise errors.InvalidSpec(
            f"Checking a certificate needs {error.name}, which is not installed here.",
            hint="pip install 'quintile[rounds]'",
        ) from error
    with np.load(io.BytesIO(scores), allow_pickle=False) as stored:
        table = certify.ScoreTable.read(dict(stored))
    problems = certify.verify(certify.Certificate.read(found.document), table)
    if problems:
        raise errors.RunFailed(
            f"Certificate {found.id} does not follow from its scores: {'; '.join(problems)}.",
            reason="CertificateDiffers",
        )
