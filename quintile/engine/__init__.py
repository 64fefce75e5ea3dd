"""Pure labeling mathematics over arrays."""
