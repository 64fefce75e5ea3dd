"""Which Secrets of a project pods of users may read: an administrator said so, twice.

In the chart, which lets the operator look at the Secrets that ``projects[].secrets`` names and at
no others, and on the Secret itself, by a label. Looked at is the metadata alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from quintile.adapters import client_kube
from quintile.core import errors

USE: Final = "quintile.dev/use"
WORKERS: Final = "workers"
NOT_ALLOWED: Final = "SecretNotAllowed"
NOT_FOUND: Final = "SecretNotFound"


class WorkerSecrets:
    """Says whether pods may read Secrets.

    Args:
        client: Requests to the API server, with the operator's rights.
    """

    def __init__(self, client: client_kube.KubeClient) -> None:
        self._client = client

    def check(self, namespace: str, names: Iterable[str]) -> None:
        """Refuse Secrets that are not there, or not for workers.

        Raises:
            Blocked: Names the first of them; ``reason`` says which of the two.
            Unavailable: The API server is away.
        """
        for name in names:
            self._check(namespace, name)

    def _check(self, namespace: str, name: str) -> None:
        what = f"Secret {namespace}/{name}"
        try:
            found = self._client.metadata(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        except errors.Forbidden as error:
            raise errors.Blocked(
                f"{what} is not for experiments: the platform does not know it.",
                hint="An administrator adds its name to projects[].secrets of the chart, and the "
                f"label {USE}={WORKERS} to the Secret.",
                field="spec.secretRefs",
                reason=NOT_ALLOWED,
            ) from error
        except errors.NotFound as error:
            raise errors.Blocked(
                f"There is no {what}.",
                hint=f"Create it with the label {USE}={WORKERS}; it is looked for again by itself.",
                field="spec.secretRefs",
                reason=NOT_FOUND,
            ) from error
        if (found.get("labels") or {}).get(USE) != WORKERS:
            raise errors.Blocked(
                f"{what} is not for experiments: it lacks the label {USE}={WORKERS}.",
                hint=f"Who may: kubectl -n {namespace} label secret {name} {USE}={WORKERS}",
                field="spec.secretRefs",
                reason=NOT_ALLOWED,
            )
