"""Networks of our own, built from scratch."""
