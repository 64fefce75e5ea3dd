"""Which resource a request is about, whatever its path looks like."""

from __future__ import annotations

import pytest

from quintile_operator import figures


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/namespaces", "namespaces"),
        ("/api/v1/namespaces/a", "namespaces"),
        ("/api/v1/namespaces/a/pods", "pods"),
        ("/api/v1/namespaces/a/pods/b", "pods"),
        ("/api/v1/namespaces/a/pods/b/log", "pods/log"),
        ("/api/v1/pods?limit=5", "pods"),
        ("/apis/batch/v1/jobs", "jobs"),
        ("/apis/quintile.dev/v1alpha1", "discovery"),
        ("/apis/quintile.dev/v1alpha1/namespaces/a/trials/b/status", "trials/status"),
        ("/apis/quintile.dev/v1alpha1/queues/b/status", "queues/status"),
    ],
)
def test_the_resource_of_a_path(path: str, resource: str) -> None:
    assert figures.resource_of(path) == resource
