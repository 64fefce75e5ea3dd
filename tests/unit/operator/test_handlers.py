"""What kopf is told to leave alone."""

from __future__ import annotations

from typing import Any

import kopf

from quintile_operator import handlers


class Whole:
    """A part of a resource that nobody may copy."""

    def __deepcopy__(self, _memo: Any) -> Any:
        raise AssertionError("kopf copied a resource")


def test_kopf_copies_no_resource_and_keeps_nothing_of_it() -> None:
    storage = handlers.settings().persistence.diffbase_storage
    body, patch = kopf.Body({"metadata": {"name": "one"}, "spec": {"of": Whole()}}), kopf.Patch()
    assert storage.fetch(body=body) is None
    assert storage.build(body=body) == {}
    storage.store(body=body, patch=patch, essence=storage.build(body=body))
    assert not patch
