"""All tables of the API in one metadata, for migrations and the test that compares them."""

from __future__ import annotations

from quintile_api import tables
from quintile_api.data import tables as data_tables
from quintile_api.runs import tables as run_tables

METADATA = tables.Base.metadata

__all__ = ["METADATA", "data_tables", "run_tables", "tables"]
