"""An ordinary Horovod script. Arguments: where rank 0 notes when its first step was finished.

Under every launcher it is the same program.
"""

import pathlib
import sys
import time

import horovod.torch as hvd
import torch
from torch import nn


def main() -> None:
    """Do one step."""
    hvd.init()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = hvd.DistributedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.01),
        named_parameters=model.named_parameters(),
    )
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    inputs, targets = torch.randn(32, 64), torch.randint(0, 10, (32,))
    nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    if hvd.rank() == 0:
        pathlib.Path(sys.argv[1]).write_text(str(time.time()))
    hvd.shutdown()


if __name__ == "__main__":
    main()
