"""Both stores and the platform from the chart, for real: install, check, upgrade, remove."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quintile.core import errors, meta
from quintile.testing import releases, waiting

REMOVED_S = 120.0
KINDS = ("experiments", "trials", "labelingjobs")

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def release() -> Iterator[releases.Release]:
    with releases.namespaces() as made:
        yield made


def test_a_platform_from_the_chart(release: releases.Release) -> None:
    release.upgrade()
    release.helm("test", "q", "--timeout", "120s")
    before = release.keys()

    release.upgrade("--set", "api.replicas=2")
    release.helm("rollback", "q", "1", "--wait", "--timeout", "3m")
    assert release.keys() == before, "an upgrade changed a key"

    submit(release, "left-behind")
    waiting.until(lambda: len(ours(release)) > 1, timeout_s=60)
    release.helm("uninstall", "q", "--wait", "--timeout", "2m")
    assert not [name for item in ours(release) for name in item["metadata"].get("finalizers", ())]
    for name in (release.namespace, release.project):
        release.kube.delete(f"/api/v1/namespaces/{name}")
    waiting.until(lambda: gone(release), timeout_s=REMOVED_S)


def submit(release: releases.Release, name: str) -> None:
    """Leave an Experiment, which has a Trial, whose dataset does not exist."""
    document = {
        "apiVersion": meta.API_VERSION,
        "kind": "Experiment",
        "metadata": {"name": name},
        "spec": {
            "dataset": {"name": "missing", "version": 1, "split": "none"},
            "estimator": {"builtin": {"model": "resnet8"}},
            "run": {"resources": {"cpu": "100m", "memory": "512Mi"}},
        },
    }
    release.kube.create(
        f"/apis/{meta.API_VERSION}/namespaces/{release.project}/experiments", document
    )


def ours(release: releases.Release) -> list[meta.Document]:
    root = f"/apis/{meta.API_VERSION}/namespaces/{release.project}"
    return [item for kind in KINDS for item in release.kube.get(f"{root}/{kind}")["items"]]


def gone(release: releases.Release) -> bool:
    for name in (release.namespace, release.project):
        try:
            release.kube.get(f"/api/v1/namespaces/{name}")
        except errors.NotFound:
            continue
        return False
    return True
