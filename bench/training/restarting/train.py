"""An ordinary script of DistributedDataParallel that saves its state and goes on from it.

Arguments: the folder of its state. Under every launcher it is the same program. Rank 0 notes every
finished step, with its time and process, in ``steps``; each rank notes its process.
"""

import os
import pathlib
import sys
import time

import torch
from torch import distributed, nn
from torch.nn import parallel

SAVE_EVERY = 20


def main() -> None:
    """Train until somebody ends the process."""
    folder = pathlib.Path(sys.argv[1])
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    (folder / f"rank-{rank}").write_text(f"{os.getpid()}\n")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 36, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    step, kept = 0, folder / "state.pt"
    if kept.exists():
        state = torch.load(kept)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    model = parallel.DistributedDataParallel(net)
    with (folder / "steps").open("a") as steps:
        while True:
            inputs, targets = torch.randn(32, 1, 28, 28), torch.randint(0, 10, (32,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            step += 1
            if rank == 0:
                steps.write(f"{time.time()} {os.getpid()} {step}\n")
                steps.flush()
                if step % SAVE_EVERY == 0:
                    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
                    torch.save({**state, "step": step}, kept.with_suffix(".new"))
                    kept.with_suffix(".new").rename(kept)


if __name__ == "__main__":
    main()
