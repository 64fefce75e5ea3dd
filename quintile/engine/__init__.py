"""Pure labeling mathematics over arrays."""

VERSION = "1"
"""Part of every round's manifest: equal manifests of one version give equal outputs."""
