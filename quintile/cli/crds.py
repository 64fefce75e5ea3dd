"""``python -m quintile.cli.crds [--check] FOLDER``: the CRDs as files, from the wire models."""

from __future__ import annotations

import argparse
import pathlib
import sys

import yaml

from quintile.core import crd, meta

HEADER = "# Generated from the models in quintile.core by `make crds`; do not edit.\n"


def render(document: meta.Document) -> str:
    """Return one CRD as YAML text."""
    body = yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + body


def main(argv: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` return 1 when one is out of date."""
    parser = argparse.ArgumentParser(prog="quintile.cli.crds", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("folder", type=pathlib.Path)
    wanted = parser.parse_args(argv)
    texts = {wanted.folder / name: render(found) for name, found in crd.documents().items()}
    if not wanted.check:
        wanted.folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [
        path
        for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        sys.stderr.write(f"{path} is out of date; run `make crds`.\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
