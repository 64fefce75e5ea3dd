"""``quintile demo``: the main job on real images, from an empty folder to a report.

Everything goes through the public API of a platform that runs as a process of its own, with a home
that is thrown away. The demo opens nothing and asks nothing.
"""

from quintile_embedded.demo.main import Options, run

__all__ = ["Options", "run"]
