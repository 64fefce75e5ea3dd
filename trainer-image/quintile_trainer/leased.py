"""The training loop of parameter servers in ``ssp`` and ``async``: no common step.

Positions of the whole run are leased from server 0, and every push is an update of its own. What is
called a step here is a global batch worth of positions: rates, reports and checkpoints go by it.
Reports are those of rank 0, whose view is a little behind or ahead of the others.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch

from quintile_trainer import (
    checkpoints,
    evaluate,
    failures,
    hyper,
    loop,
    seeding,
    task,
)
from quintile_trainer.data import order
from quintile_trainer.modes import single
from quintile_trainer.ps import job, ledger, mode, remote, settings, staleness

Done = tuple[tuple[int, int], ...]


class LeasedLoop(loop.Loop):
    """Trains one task among parameter servers.

    Raises:
        BadInput: An option needs a common step.
    """

    def __init__(
        self,
        work: task.Task,
        given: hyper.HyperParameters,
        plan: loop.Plan,
        tools: loop.Tools,
        optimizer: remote.RemoteOptimizer,
    ) -> None:
        if given.patience > 0:
            raise failures.BadInput(
                f"hparam patience is {given.patience}, but with ps.consistency ssp or async the "
                "workers have no common step to stop at; use sync, or leave it out"
            )
        super().__init__(work, given, plan, dataclasses.replace(tools, optimizer=optimizer))
        self._remote = optimizer
        self._ranks = optimizer.ranks
        self._schedule = self._sampler.schedule
        self._total = self._schedule.line(plan.total_steps)
        self._size = max(1, plan.global_batch // self._ranks.world_size)
        self._done: Done = ()
        self._saved = 0
        self._reached = 0

    def run(self) -> loop.Result:
        """Train to the end, evaluate, and save the final state.

        Raises:
            Yielded, Diverged, PeerLost: As in the other loop.
        """
        report, total = self._tools.report, self._plan.total_steps
        self._remote.positions = job.Positions(self._total, len(self._work.train), self._done)
        self._optimizer.begin(self._step)
        self._ranks.prepare(self._work.model)
        self._work.model.train()
        pace = loop.Pace()
        while (lease := self._lease()) is not None:
            begun = time.perf_counter()
            losses = self._train_lease(lease)
            before = self._step
            self._advance(lease, pace, seconds=time.perf_counter() - begun)
            report.progress(self._step, total)
            self._mind(before, losses, lease, pace)
        self._settle(pace)
        return self._finish(pace)

    def _lease(self) -> ledger.Lease | None:
        if self._tools.stop.asked:
            # Nobody gets more: all ranks leave as soon as their newest push is done.
            self._ranks.end_leases()
        return self._ranks.lease(self._size)

    def _train_lease(self, lease: ledger.Lease) -> loop.Losses:
        epoch, first = divmod(lease.start, len(self._work.train))
        samples = self._sampler.between(epoch, range(first, first + lease.stop - lease.start))
        seeding.seed_torch(order.mix(self._given.seed, lease.start))
        self._optimizer.zero()
        losses = self._backward(samples, 1 / len(samples.items))
        # A global batch is as many updates as there are workers; together they go as far as one.
        rate = self._rate(self._schedule.step_at(lease.start)) / self._ranks.world_size
        self._update(rate)
        return losses

    def _advance(self, lease: ledger.Lease, pace: loop.Pace, *, seconds: float) -> None:
        """Note where the run is, as far as this rank can tell from its own lease."""
        self._count(pace, max(0, lease.stop - self._reached), seconds)
        self._reached = max(self._reached, lease.stop)
        self._step = max(self._step, self._schedule.step_at(self._reached))

    def _mind(self, before: int, losses: loop.Losses, lease: ledger.Lease, pace: loop.Pace) -> None:
        """Report, save and evaluate where a step that calls for it was passed."""
        total = self._plan.total_steps
        if self._passes(before, self._plan.report_every):
            self._report(losses, lease.stop - lease.start, pace)
        if self._ranks.rank != 0 or self._step >= total:
            return
        if self._passes(before, self._plan.checkpoint_every):
            self._save()
        if self._passes(before, self._plan.eval_every) and self._work.evaluate is not None:
            self._note(evaluate.evaluate(self._work, self._work.model, single.Single()))

    def _passes(self, before: int, every: int) -> bool:
        return bool(every) and self._step // every > before // every

    def _report(self, losses: loop.Losses, samples: int, pace: loop.Pace) -> None:
        mean = float(torch.stack(losses).double().sum()) / samples
        self._report_loss(mean, pace)

    def _settle(self, pace: loop.Pace) -> None:
        """Wait for all ranks; leave with them if somebody was asked to before the end.

        Raises:
            Yielded: The state is saved.
        """
        begun = time.perf_counter()
        servers = self._ranks.servers
        servers.barrier()
        counters = servers.statistics()
        servers.pull()
        finished = counters.finished
        self._metrics["staleness_mean"] = staleness.mean(counters.staleness)
        self._metrics["staleness_max"] = float(max(counters.staleness, default=0))
        if finished < self._total:
            self._yield(-1)
        self._count(pace, max(0, self._total - self._reached), time.perf_counter() - begun)
        self._step = self._plan.total_steps
        self._log({name: self._metrics[name] for name in ("staleness_mean", "staleness_max")})

    def _take_place(self, snapshot: checkpoints.Snapshot) -> None:
        known = snapshot.state.get("positions")
        done = known if known is not None else [[0, self._schedule.line(snapshot.step)]]
        self._done = tuple((int(start), int(stop)) for start, stop in done)
        self._reached = sum(stop - start for start, stop in self._done)
        self._saved = snapshot.step

    def _snapshot(self) -> Callable[[], checkpoints.Snapshot | None]:
        cut, taken = self._ranks.checkpoint(), self._taken()
        names = {id(value): name for name, value in self._work.model.named_parameters()}
        shown = dict(self._work.model.named_parameters(remove_duplicate=False))
        homes = {name: names[id(value)] for name, value in shown.items()}

        def made() -> checkpoints.Snapshot | None:
            contents = cut.contents()
            assert contents.positions is not None
            done = contents.positions.done
            line = sum(stop - start for start, stop in done)
            step = self._schedule.step_at(line)
            if step <= self._saved:
                return None
            self._saved = step
            epoch, cursor = divmod(line, len(self._work.train))
            trained = {
                name: contents.parameters[home]
                for name, home in homes.items()
                if home in contents.parameters
            }
            return checkpoints.Snapshot(
                step=step,
                epoch=epoch,
                cursor=cursor,
                model={**taken.model, **trained},
                optimizer=contents.optimizer,
                state={**taken.state, "positions": [list(pair) for pair in done]},
                metrics=taken.metrics,
            )

        return made


def among_servers(
    work: task.Task,
    given: hyper.HyperParameters,
    plan: loop.Plan,
    tools: loop.Tools,
    consistency: settings.Consistency,
) -> loop.Loop:
    """Return the loop of a worker among parameter servers: the usual one in sync.

    Raises:
        BadInput: The servers cannot do what is asked for.
    """
    assert isinstance(tools.mode, mode.ParameterServers)
    optimizer = remote.RemoteOptimizer(work.model, given, tools.mode, consistency)
    if consistency.ordering == "sync":
        return loop.Loop(work, given, plan, dataclasses.replace(tools, optimizer=optimizer))
    return LeasedLoop(work, given, plan, tools, optimizer)
