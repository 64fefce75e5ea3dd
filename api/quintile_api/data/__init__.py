"""Datasets: uploads, imports, immutable versions, splits, items and their images."""
