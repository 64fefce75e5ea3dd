"""Rounds: when they open and close, what goes in, what comes back."""
