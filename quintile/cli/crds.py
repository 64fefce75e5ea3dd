"""``python -m quintile.cli.crds [--check] FOLDER``: the CRDs as files, from the wire models."""

from __future__ import annotations

import yaml

from quintile.core import crd, meta
from quintile.settings import generated

HEADER = "# Generated from the models in quintile.core by `make crds`; do not edit.\n"


def render(document: meta.Document) -> str:
    """Return one CRD as YAML text."""
    body = yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + body


if __name__ == "__main__":
    texts = {name: render(found) for name, found in crd.documents().items()}
    raise SystemExit(generated.main(texts, goal="crds"))
