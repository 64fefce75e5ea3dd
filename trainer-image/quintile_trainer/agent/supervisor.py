"""The agent's main thread: from joining over running to the end, one generation after another.

States: ``joining`` (the courier asks) -> ``running`` (ranks live or wait for their peers) ->
``leaving`` (ranks were asked to save and go) -> an ``Outcome``. Only this thread starts, signals
and reaps processes; all else comes in as events.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from quintile_trainer import exit_codes, layout, progress, spool
from quintile_trainer.agent import (
    courier,
    exits,
    identity,
    inbox,
    launching,
    limits,
    link,
    mpi,
    nursery,
    output,
    processes,
    resume,
    rules,
    shipper,
    wire,
    witness,
)

TERMINAL = ("succeeded", "failed", "stopped")
TICK_S = 1.0
HURRY_S = 0.3
ASKED = (signal.SIGTERM, signal.SIGKILL)
"""Signals that a rank dies of when its agent asks it to go, or loses patience."""
LAST_OUTPUT_S = 0.5
FAREWELL_S = 2.0
LAST_FLUSH_S = 10.0


@dataclass
class Leaving:
    """Ranks were asked to go: why, the agent's exit code, when patience ends, since when none is.

    Times are of the monotonic clock, in seconds.
    """

    reason: str
    code: int
    deadline: float
    alone_since: float | None = None


@dataclass
class Work:
    """The generation in hand. ``drain_by``: when patience with ranks that save and go ends."""

    ready: inbox.Ready
    folder: layout.GenerationFolder
    ranks: processes.RankSet
    watch: witness.Watch
    reported: set[int] = field(default_factory=set)
    delivered: set[int] = field(default_factory=set)
    failure: wire.RankEnd | None = None
    job: mpi.Job | None = None
    drain_by: float | None = None


class Supervisor:
    """One per agent."""

    def __init__(self, shared: link.Link, box: inbox.Inbox) -> None:
        self._link = shared
        self._env = shared.env
        self._box = box
        self._state = layout.StateFolder(self._env.state_dir)
        self._ships = shipper.Shipper(shared, self._state, box)
        sources = resume.Sources(self._state)
        self._courier = courier.Courier(shared, box, ships=self._ships, sources=sources)
        self._pulse = courier.Pulse(shared, box, self._views)
        self._pump = output.Pump()
        self._nursery = nursery.Nursery(self._env)
        self._work: Work | None = None
        self._leaving: Leaving | None = None
        self._outcome: identity.Outcome | None = None
        self._ticket = 0
        self._oom_kills = exits.oom_kills()
        self._lock = threading.Lock()

    def run(self) -> identity.Outcome:
        """Run the replica to its end and return how it ended."""
        for name, work in (
            ("output", self._pump.run),
            ("shipper", self._ships.run),
            ("courier", self._courier.run),
            ("pulse", self._pulse.run),
        ):
            inbox.start_thread(name, work, self._box)
        self._join()
        while self._outcome is None:
            waiting = self._work is not None and not self._work.ranks.live
            if waiting:
                self._pulse.hurry()
            for event in self._box.wait(HURRY_S if waiting else TICK_S):
                self._handle(event)
            self._collect()
            self._mind_time()
        return self._finish(self._outcome)

    def _join(self) -> None:
        self._work = None
        self._ticket += 1
        self._courier.join(self._ticket)

    def _handle(self, event: inbox.Event) -> None:
        if isinstance(event, inbox.Ready):
            if event.ticket == self._ticket and self._leaving is None:
                self._start(event)
        elif isinstance(event, inbox.Advice):
            self._obey(event)
        elif isinstance(event, inbox.Errand):
            if self._work is not None and event.generation == self._work.ranks.generation:
                event.do()
        elif isinstance(event, inbox.Delivered):
            if self._work is not None and event.generation == self._work.ranks.generation:
                self._work.delivered.add(event.rank)
        else:
            shipper.note(f"{event.reason}: {event.message}")
            self._end(1 if event.lasting else 70, event.reason, event.message)

    def _start(self, ready: inbox.Ready) -> None:
        folder = launching.write_run(self._env, self._state, ready)
        generation = int(ready.plan["generation"])
        ranks = processes.RankSet(generation, self._nursery)
        tells = limits.must_tell_steps(self._env.program)
        watch = witness.Watch(ranks, folder, must_tell_steps=tells)
        work = Work(ready, folder, ranks, watch)
        self._nursery.begin()
        self._courier.release_port()
        step = (ready.plan.get("resume") or {}).get("step") if ready.resume_dir else None
        words = f"generation {generation} starts" + (f" at step {step}" if step is not None else "")
        shipper.note(words)
        with self._lock:
            self._work = work
        absent = mpi.missing() if mpi.is_wanted(self._env) else ""
        if absent:
            self._box.post(inbox.Broken("InvalidSpec", absent, lasting=True))
            return
        slots = launching.slots(ready.plan, role=self._env.role, index=self._env.index)
        writers = {slot.rank: self._writer(ranks, folder, slot.rank) for slot in slots}
        for slot in slots:
            output.RankOutput(writers[slot.rank], self._pump).say(f"[quintile] {words}")

        def start_rank(rank: int, told: Mapping[str, str]) -> None:
            slot = next(slot for slot in slots if slot.rank == rank)
            env = launching.rank_env(os.environ, self._env, ready, slot, str(folder.run_file))
            lines = output.RankOutput(writers[rank], self._pump)
            work.ranks.start(rank, slot.local_rank, {**env, **told}, lines)

        if mpi.is_wanted(self._env):
            first = writers[slots[0].rank]
            crew = mpi.Crew(slots, start_rank, said=lambda: mpi.Said(first, self._pump))
            work.job = mpi.Job(self._env, ready.plan, folder.root, crew=crew)
            work.job.begin(self._box)
            return
        for slot in slots:
            start_rank(slot.rank, {})

    def _writer(
        self, ranks: processes.RankSet, folder: layout.GenerationFolder, rank: int
    ) -> spool.Writer:
        def trim() -> None:
            self._ships.trim_logs(ranks.generation, rank)

        stream = folder.stream(rank, "logs")
        return spool.Writer(stream, reserve_bytes=spool.RESERVE_BYTES, rotated=trim)

    def _obey(self, advice: inbox.Advice) -> None:
        """Do what the coordinator said; what speaks of an older generation is old news."""
        if advice.directive == "fenced":
            self._end(76, "Fenced", "a newer attempt of the trial has begun")
            return
        if self._leaving is not None:
            return
        if advice.state in TERMINAL and advice.directive != "regenerate":
            self._conclude(advice.state)
        elif advice.directive == "suspend":
            self._leave("Suspended", exit_codes.YIELDED)
        elif advice.directive == "stop":
            self._leave("Stopped", 0)
        elif self._work is not None and self._is_behind(advice):
            shipper.note(f"generation {advice.generation} follows; ranks are killed and join it")
            self._kill_ranks()
            self._join()
        elif self._work is not None and advice.asked == self._work.ranks.generation:
            if advice.directive == "drain":
                self._drain(self._work)
            self._heed_stall(self._work, found=advice.directive == "stacks")

    def _drain(self, work: Work) -> None:
        """Ask the ranks to save their state and go, once; the agent joins what follows."""
        if work.drain_by is None:
            shipper.note(f"the run changes its size; ranks have {self._env.grace_s:g} s to save")
            work.drain_by = time.monotonic() + self._env.grace_s
            work.ranks.signal(signal.SIGTERM)

    def _heed_stall(self, work: Work, *, found: bool) -> None:
        """Ask the ranks where they are, once per stall."""
        if not found:
            work.watch.forget()
            return
        listen = work.watch.ask(self._pulse.hurry)
        if listen is not None:
            shipper.note("no step is finished any more; every rank is asked for its stacks")
            inbox.start_thread("stacks", listen, self._box)

    def _is_behind(self, advice: inbox.Advice) -> bool:
        assert self._work is not None
        mine = self._work.ranks.generation
        again = advice.directive == "regenerate" and advice.asked == mine
        return advice.generation > mine or again

    def _conclude(self, state: str) -> None:
        work = self._work
        if state == "succeeded":
            self._end(0, "Completed", "")
        elif state == "stopped":
            if work is not None and work.ranks.live:
                self._leave("Stopped", 0)
            else:
                self._end(0, "Stopped", "")
        elif work is not None and work.failure is not None:
            self._end(1, work.failure.reason, work.failure.first_error)
        else:
            self._end(1, "GenerationFailed", "a rank of another replica failed for good")

    def _leave(self, reason: str, code: int) -> None:
        """Ask the ranks to save their state and go; the agent follows."""
        self._leaving = Leaving(reason, code, time.monotonic() + self._env.grace_s)
        self._link.leaving = code == exit_codes.YIELDED
        self._pulse.hurry()
        shipper.note(f"{reason}: ranks have {self._env.grace_s:g} s to save their state")
        if self._work is None:
            self._courier.cancel()
            if self._link.leaving and self._link.generation > 0:
                self._pulse.farewell(FAREWELL_S)
            self._end(code, reason, "")
            return
        self._work.ranks.signal(signal.SIGTERM)

    def _collect(self) -> None:
        """Reap what ended and report the ranks among it."""
        reaped = self._reap()
        if self._work is None:
            return
        ends = [self._end_of(self._work, rank) for rank in self._work.ranks.note(reaped)]
        if self._work.job is not None:
            self._work.job.note(reaped)
            ends = self._work.job.settle(ends)
        for end in ends:
            shipper.note(f"rank {end.rank} ended: {end.reason} {end.first_error}".rstrip())
            if end.exit_code != 0 and self._work.failure is None:
                self._work.failure = end
            self._work.reported.add(end.rank)
            self._courier.report(end, self._work.ranks.generation)

    def _reap(self) -> dict[int, int]:
        reaped = processes.reap()
        self._nursery.note(reaped)
        return reaped

    def _end_of(self, work: Work, rank: processes.RankProcess) -> wire.RankEnd:
        # The last steps of a rank are in no heartbeat when it ended soon after them.
        mark = progress.mark(work.folder.progress(rank.rank))
        cause = self._cause_of(work, rank)
        return dataclasses.replace(cause, step=mark.step, total_steps=mark.total_steps)

    def _cause_of(self, work: Work, rank: processes.RankProcess) -> wire.RankEnd:
        rank.lines.closed.wait(LAST_OUTPUT_S)
        assert rank.status is not None
        code = os.waitstatus_to_exitcode(rank.status)
        number = -code if code < 0 else 0
        ended = exits.Ended(
            rank=rank.rank,
            exit_code=exits.SIGNAL_BASE + number if number else code,
            signal=number,
            words=exits.last_words(work.folder.error(rank.rank)),
            tail=list(rank.lines.tail),
            oom_kills=exits.oom_kills() - self._oom_kills,
        )
        reason, line = exits.reason(ended), exits.first_error(ended)
        if self._leaving is not None and ended.exit_code != 0:
            return wire.RankEnd(rank.rank, ended.exit_code, number, self._leaving.reason, line)
        if work.drain_by is not None and (number in ASKED or code == exit_codes.YIELDED):
            return wire.RankEnd(rank.rank, ended.exit_code, number, "Resized", line)
        given = self._env.program.get("failureRules", [])
        action = rules.action(given, exit_code=ended.exit_code, tail=ended.tail)
        return wire.RankEnd(rank.rank, ended.exit_code, number, reason, line, action)

    def _mind_time(self) -> None:
        now = time.monotonic()
        if self._box.asked_to_leave and self._leaving is None and self._outcome is None:
            self._leave("Preempted", exit_codes.YIELDED)
        if self._leaving is None and self._link.away_s() > self._env.away_limit_s:
            self._leave("ApiUnreachable", 77)
        leaving, work = self._leaving, self._work
        if work is not None and work.job is not None and leaving is None:
            work.ranks.kill(only=work.job.abandoned())
        if work is not None and work.drain_by is not None and now > work.drain_by:
            work.ranks.kill()
        if leaving is None and self._outcome is None:
            self._nursery.consider(self._views())
        if leaving is None or work is None or self._outcome is not None:
            return
        if work.ranks.live:
            if now > leaving.deadline:
                shipper.note("patience is over; ranks are killed")
                self._kill_ranks()
            return
        if leaving.alone_since is None:
            leaving.alone_since = now
        all_known = work.delivered >= {rank.rank for rank in work.ranks.ranks}
        patient = now - leaving.alone_since < LAST_FLUSH_S and leaving.code != 77
        if all_known or not patient:
            self._end(leaving.code, leaving.reason, "")

    def _kill_ranks(self) -> None:
        """Kill the ranks and every descendant; their exits are nobody's news any more."""
        work = self._work
        if work is None:
            return
        deadline = time.monotonic() + 5.0
        work.ranks.kill()
        while time.monotonic() < deadline:
            work.ranks.note(self._reap())
            left = processes.kill_children(keep=self._nursery.pids)
            if not work.ranks.live and not left:
                break
            time.sleep(0.005)
        if work.job is not None:
            work.job.close()
        if self._leaving is not None:
            work.delivered.update(rank.rank for rank in work.ranks.ranks)

    def _end(self, code: int, reason: str, message: str) -> None:
        if self._outcome is None:
            self._outcome = identity.Outcome(code, reason, message)

    def _finish(self, outcome: identity.Outcome) -> identity.Outcome:
        self._nursery.close("the run has ended")
        self._kill_ranks()
        self._courier.cancel()
        if outcome.code == 76:
            return outcome
        # A run that ended has time to deliver; one that was asked to leave or cut off has little.
        patient = outcome.code in (0, 1) and outcome.reason != "Stopped"
        limit_s = self._env.away_limit_s if patient else LAST_FLUSH_S
        if outcome.code == 77:
            limit_s = 0.0
        if not self._ships.flush(limit_s):
            shipper.note("the API was away to the end; what is left stays in the state folder")
        return outcome

    def _views(self) -> list[wire.RankView]:
        with self._lock:
            work = self._work
        if work is None or work.ranks.generation != self._link.generation:
            return []
        return work.watch.views()
