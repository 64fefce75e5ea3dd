"""``python -m quintile.settings [--check] FILE``: the reference page of all settings."""

from __future__ import annotations

from quintile.settings import generated, tree

if __name__ == "__main__":
    raise SystemExit(generated.main({"": tree.reference()}, goal="docs"))
