"""Quintile: label a fifth, certify the rest, train on all of it."""
