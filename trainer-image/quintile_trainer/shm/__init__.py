"""``comm: shm``: ranks of one host sum tensors through shared memory, not through sockets.

Mode ``ddp`` uses it: ``join`` once the ranks have a store, ``submit`` what is ready, ``finish`` a
step, ``close`` at the end. Must never be used between hosts; ``join`` proves that it is not.
"""

from quintile_trainer.shm.group import Group
from quintile_trainer.shm.hook import register
from quintile_trainer.shm.meeting import join
from quintile_trainer.shm.problems import LateRank, Mismatch, NoMemory, NotOneHost
from quintile_trainer.shm.settings import Settings
from quintile_trainer.shm.sums import Operation, takes

__all__ = [
    "Group",
    "LateRank",
    "Mismatch",
    "NoMemory",
    "NotOneHost",
    "Operation",
    "Settings",
    "join",
    "register",
    "takes",
]
