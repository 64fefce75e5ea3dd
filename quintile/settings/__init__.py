"""The settings tree and its one reader of the environment."""

from quintile.settings.tree import ApiSettings, LogSettings, Settings, keys, load, reference

__all__ = ["ApiSettings", "LogSettings", "Settings", "keys", "load", "reference"]
