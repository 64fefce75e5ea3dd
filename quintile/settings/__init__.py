"""The settings tree and its one reader of the environment."""

from quintile.settings.cluster import DatabaseSettings, KubernetesSettings, S3Settings
from quintile.settings.tree import ApiSettings, LogSettings, Settings, keys, load, reference

__all__ = [
    "ApiSettings",
    "DatabaseSettings",
    "KubernetesSettings",
    "LogSettings",
    "S3Settings",
    "Settings",
    "keys",
    "load",
    "reference",
]
