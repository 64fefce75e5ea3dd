"""A training script in the style of Horovod's own documentation; knows nothing of Quintile."""

import argparse

import horovod.torch as hvd
import torch
import torch.nn.functional as F  # noqa: N812
import torch.optim as optim
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--optimizer", default="sgd")
parser.add_argument("--fp16-allreduce", action="store_true")
parser.add_argument("--passes", type=int, default=1)
parser.add_argument("--clip", action="store_true")
parser.add_argument("--use-sum", action="store_true")
args = parser.parse_args()

hvd.init()
torch.set_num_threads(1)
torch.manual_seed(42 + hvd.rank())  # other weights on each rank, until they are broadcast


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, kernel_size=3)
        self.norm = nn.GroupNorm(2, 4)
        self.conv2 = nn.Conv2d(4, 8, kernel_size=3)
        self.fc1 = nn.Linear(8 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv1(x)))
        x = F.relu(self.conv2(x))
        x = x.flatten(1)
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)


made = torch.Generator().manual_seed(7)
labels = torch.randint(0, 10, (192,), generator=made)
images = torch.randn(192, 1, 8, 8, generator=made) + labels.view(-1, 1, 1, 1) / 5
train_dataset = TensorDataset(images, labels)

# Horovod: use DistributedSampler to partition the training data.
train_sampler = DistributedSampler(train_dataset, num_replicas=hvd.size(), rank=hvd.rank())
train_loader = DataLoader(train_dataset, batch_size=16, sampler=train_sampler)

model = Net()
lr_scaler = 1 if args.use_sum else hvd.size()
if args.optimizer == "sgd":
    optimizer = optim.SGD(model.parameters(), lr=0.01 * lr_scaler, momentum=0.5, weight_decay=1e-3)
else:
    optimizer = optim.Adam(model.parameters(), lr=0.001 * lr_scaler)

# Horovod: broadcast parameters & optimizer state.
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
hvd.broadcast_optimizer_state(optimizer, root_rank=0)

# Horovod: (optional) compression algorithm.
compression = hvd.Compression.fp16 if args.fp16_allreduce else hvd.Compression.none

# Horovod: wrap optimizer with DistributedOptimizer.
optimizer = hvd.DistributedOptimizer(
    optimizer,
    named_parameters=model.named_parameters(),
    compression=compression,
    backward_passes_per_step=args.passes,
    op=hvd.Sum if args.use_sum else hvd.Average,
)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)


def metric_average(val, name):
    tensor = torch.tensor(val)
    avg_tensor = hvd.allreduce(tensor, name=name)
    return avg_tensor.item()


def train(epoch):
    model.train()
    train_sampler.set_epoch(epoch)
    pending = 0
    for data, target in train_loader:
        if pending == 0:
            optimizer.zero_grad()
        loss = F.nll_loss(model(data), target) / args.passes
        loss.backward()
        pending += 1
        if pending < args.passes:
            continue
        pending = 0
        if args.clip:
            optimizer.synchronize()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            with optimizer.skip_synchronize():
                optimizer.step()
        else:
            optimizer.step()


def test():
    model.eval()
    with torch.no_grad():
        share = images[hvd.rank() :: hvd.size()]
        truth = labels[hvd.rank() :: hvd.size()]
        output = model(share)
        test_loss = F.nll_loss(output, truth).item()
        accuracy = (output.argmax(dim=1) == truth).float().mean().item()
    return metric_average(test_loss, "avg_loss"), metric_average(accuracy, "avg_accuracy")


for epoch in range(1, args.epochs + 1):
    train(epoch)
    scheduler.step()
    metrics = test()

losses = hvd.allgather(torch.tensor([metrics[0], float(hvd.rank())]))
names = hvd.allgather_object({"rank": hvd.rank(), "local": hvd.local_rank()})
counts = hvd.allreduce(torch.tensor([hvd.rank() + 1]), op=hvd.Sum, name="counts")
chosen = hvd.broadcast_object(
    {"best": metrics} if hvd.rank() == 1 else None, root_rank=1, name="chosen"
)
last = hvd.join()

if hvd.rank() == 0:
    torch.save(
        {
            "model": model.state_dict(),
            "momenta": optimizer.state_dict()["state"],
            "metrics": metrics,
            "losses": losses,
            "names": names,
            "counts": counts,
            "chosen": chosen,
            "places": [hvd.size(), hvd.local_size(), hvd.cross_size()],
            "last": last in range(hvd.size()),
        },
        args.out,
    )
hvd.shutdown()
