"""The composition root of `quintile up`."""
