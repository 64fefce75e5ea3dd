"""Taking in labeling jobs: whether they can ever succeed, and what their changes mean."""
