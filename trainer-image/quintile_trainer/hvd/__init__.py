"""Scripts that use ``horovod.torch`` run where Horovod is not installed: a shim with its interface.

The rank's script runner calls ``install`` before it runs a script. Nothing here loads torch before
the script imports Horovod. Must never hide a Horovod that works.
"""

from quintile_trainer.hvd.importing import Choice, install

__all__ = ["Choice", "install"]
