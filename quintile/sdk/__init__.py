"""The notebook SDK."""
