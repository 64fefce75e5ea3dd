"""A script in the way Horovod's documentation writes them; it knows nothing of Quintile.

::

    horovodrun -np 2 python train.py                                     # as ever
    quintile run examples/horovod/train.py -w 2 --mode horovod           # Gloo controller
    quintile run examples/horovod/train.py -w 2 --mode horovod --controller mpi
    quintile run examples/horovod/train.py -w 2 --mode mpi
"""

import argparse

import horovod.torch as hvd
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils import data
from torch.utils.data.distributed import DistributedSampler


class Net(nn.Module):
    """Two convolutions and two layers on images of 8 by 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of the ten digits."""
        x = functional.relu(self.conv1(x))
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def datasets() -> tuple[data.TensorDataset, data.TensorDataset]:
    """Return digits to learn from, and every fifth to test with."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    held_out = torch.arange(len(labels)) % 5 == 0
    train = data.TensorDataset(images[~held_out], labels[~held_out])
    return train, data.TensorDataset(images[held_out], labels[held_out])


def train(model, optimizer, loader, sampler, epoch: int) -> None:
    """Pass over this rank's part of the data once."""
    model.train()
    sampler.set_epoch(epoch)
    for batch, (images, labels) in enumerate(loader):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if batch == 0 and hvd.rank() == 0:
            print(f"epoch {epoch} loss {loss.item():.4f}", flush=True)


def test(model, loader) -> float:
    """Return the accuracy, averaged over the ranks."""
    model.eval()
    right = total = 0
    with torch.no_grad():
        for images, labels in loader:
            right += (model(images).argmax(1) == labels).sum().item()
            total += len(labels)
    return hvd.allreduce(torch.tensor(right / total), name="accuracy").item()


def main() -> None:
    """Train on all ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    args = parser.parse_args()

    # Initialize Horovod, and pin this process to its GPU.
    hvd.init()
    torch.manual_seed(42)
    if torch.cuda.is_available():
        torch.cuda.set_device(hvd.local_rank())

    # Every rank reads its own part.
    train_set, test_set = datasets()
    sampler = DistributedSampler(train_set, num_replicas=hvd.size(), rank=hvd.rank())
    test_sampler = DistributedSampler(test_set, num_replicas=hvd.size(), rank=hvd.rank())
    loader = data.DataLoader(train_set, batch_size=args.batch_size, sampler=sampler)
    test_loader = data.DataLoader(test_set, batch_size=args.batch_size, sampler=test_sampler)

    # Scale the learning rate with the number of ranks; start everywhere from rank 0's state.
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr * hvd.size(), momentum=0.9)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())

    for epoch in range(1, args.epochs + 1):
        train(model, optimizer, loader, sampler, epoch)
    accuracy = test(model, test_loader)
    if hvd.rank() == 0:
        print(f"accuracy {accuracy:.4f} on {hvd.size()} ranks", flush=True)


if __name__ == "__main__":
    main()
