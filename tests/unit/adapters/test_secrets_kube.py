"""Which Secrets pods of users may read: those that an administrator named and labelled."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.adapters import client_kube, secrets_kube
from quintile.core import errors, meta


class Client(client_kube.KubeClient):
    """Answers with metadata, or with an error."""

    def __init__(self, **found: meta.Document | errors.QuintileError) -> None:
        self.found = found
        self.paths: list[str] = []

    def metadata(self, path: str) -> meta.Document:
        self.paths.append(path)
        answer = self.found[path.rpartition("/")[2]]
        if isinstance(answer, errors.QuintileError):
            raise answer
        return answer


GOOD: dict[str, Any] = {"labels": {"quintile.dev/use": "workers"}}


def test_a_secret_with_the_label_is_allowed() -> None:
    client = Client(a=GOOD, b=GOOD)
    secrets_kube.WorkerSecrets(client).check("team", ["a", "b"])
    assert client.paths == [f"/api/v1/namespaces/team/secrets/{name}" for name in "ab"]


@pytest.mark.parametrize(
    ("answer", "reason", "hint"),
    [
        (client_kube.Rejected("no"), "SecretNotAllowed", "projects[].secrets"),
        (errors.NotFound("none"), "SecretNotFound", "Create it"),
        ({}, "SecretNotAllowed", "kubectl -n team label secret b"),
        ({"labels": {"quintile.dev/use": "pull"}}, "SecretNotAllowed", "kubectl"),
    ],
)
def test_any_other_is_named_with_what_to_do(answer: Any, reason: str, hint: str) -> None:
    with pytest.raises(errors.Blocked, match="team/b") as caught:
        secrets_kube.WorkerSecrets(Client(a=GOOD, b=answer)).check("team", ["a", "b"])
    assert caught.value.reason == reason
    assert hint in caught.value.hint


def test_an_api_server_that_is_away_is_no_verdict() -> None:
    away = errors.Unavailable("away")
    with pytest.raises(errors.Unavailable):
        secrets_kube.WorkerSecrets(Client(a=away)).check("team", ["a"])
