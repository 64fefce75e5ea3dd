"""The coordinator: join, heartbeat, exit, commit. Blocking steps; routes do the waiting.

State lives in SQL, so any replica of the API answers any agent. Each step is one transaction that
takes the trial's row first, checks the fence, swaps states, and appends to the outbox what the
reconciler must hear.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import orm

from quintile import ports, settings
from quintile.adapters import outbox, signals, sql, tokens_ed25519
from quintile.core import errors, messages
from quintile_api.coordinator import (
    answers,
    elastic,
    fencing,
    plans,
    pulse,
    stalls,
    state,
    transitions,
)
from quintile_api.runs import checkpoints, tables

Claims = tokens_ed25519.TrialClaims
GOING = ("running", "draining")
"""States in which ranks live. Only of an elastic run the newest generation drains."""


@dataclass(frozen=True)
class Parts:
    """What the coordinator works with."""

    database: sql.Database
    outbox: outbox.Outbox
    objects: ports.ObjectStore
    clock: ports.Clock
    settings: settings.ApiSettings


class Coordinator:
    """One per API process. ``changed`` wakes joins when any generation of this process moved."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = parts.database
        self._pace = elastic.pace(parts.settings)
        self.changed = signals.Signal()
        self.pulse = pulse.Pulse()

    def join(self, claims: Claims, message: messages.Join) -> messages.JoinAnswer:
        """Take an agent into the newest generation of its attempt. Idempotent per boot.

        Raises:
            Stale: The attempt is over.
            InvalidSpec: The agent is no member of the attempt.
        """
        answers.check_member(message)
        now_s = self._parts.clock.now()
        with self._database.write() as session:
            run = self._run(session, claims, message, now_s)
            row = self._generation(session, run, message)
            member = transitions.is_member(session, row, message)
            if row.state in GOING and not member and elastic.is_newcomer(session, row, message):
                elastic.welcome(session, row, message, now_s=now_s)
            elif row.state in GOING and not member:
                loss = transitions.agent_loss(
                    row, message.role, message.index, reason="AgentReplaced", what="started again"
                )
                transitions.step_down(session, run, row, loss=loss, now_s=now_s)
                self._tell(session, run)
                row = state.current(session, run)
            elif row.state == "draining" and elastic.give_up_start(session, row, message):
                transitions.settle(session, run, row, now_s=now_s)
                row = state.current(session, run)
            if row.state == "forming" and run.stop_s is not None:
                state.swap(session, row, "stopped")
                self._tell(session, run)
            if row.state == "forming":
                transitions.sign_in(session, row, message, now_s=now_s)
        self.pulse.beat(claims.uid, message, now_s=now_s)
        self._advance(claims.uid)
        self.changed.notify()
        return self.answer(claims, message)

    def wait_on(self, claims: Claims, message: messages.Join) -> messages.JoinAnswer:
        """Go on with what only waited for time to pass; return what a waiting agent is told."""
        if message.least and self._advance(claims.uid):
            self.changed.notify()
        return self.answer(claims, message)

    def answer(self, claims: Claims, message: messages.Join) -> messages.JoinAnswer:
        """Return what a waiting agent is told now, without changing anything."""
        with self._database.read() as session:
            run = state.run_of(session, claims.uid)
            row = state.newest(session, claims.uid, run.attempt) if run is not None else None
            stale = state.behind(run, row, message)
            if run is None or row is None or (stale and stale.members["directive"] == "fenced"):
                raise stale or errors.NotFound(f"Trial {claims.trial} has not joined.")
            found, word, number = state.plan_of(row), state.word(row), row.generation
            if word in GOING and elastic.is_newcomer(session, row, message):
                return messages.JoinAnswer(state="forming", generation=number)
        if word in state.TERMINAL:
            return messages.JoinAnswer(state=word, generation=number, directive="stop")
        plan = None
        if word == "running" and found is not None:
            ttl_s = self._parts.settings.url_ttl_s
            plan = answers.with_urls(found, self._parts.objects, ttl_s=ttl_s)
        return messages.JoinAnswer(state=word, generation=number, plan=plan)

    def heartbeat(self, claims: Claims, message: messages.Heartbeat) -> messages.HeartbeatAnswer:
        """Note that an agent lives and say what it shall do.

        Raises:
            Stale: The agent is of an older attempt or generation, or another boot took its place.
        """
        with self._database.read() as session:
            run = state.run_of(session, claims.uid)
            row = state.newest(session, claims.uid, run.attempt) if run is not None else None
            stale = state.behind(run, row, message)
            if stale is None or stale.members["directive"] != "fenced":
                self.pulse.beat(claims.uid, message, now_s=self._parts.clock.now())
            if stale is not None or run is None or row is None:
                raise stale or errors.NotFound(f"Trial {claims.trial} has not joined.")
            suspect = stalls.is_suspect(row, message)
            if not (message.leaving or transitions.is_member(session, row, message)):
                raise fencing.Stale(
                    f"{message.role}-{message.index} of this boot has not joined generation "
                    f"{row.generation}.",
                    directive="regenerate",
                    state=state.word(row),
                    attempt=row.attempt,
                    generation=row.generation,
                )
            answer = answers.directions(run, row)
        if message.leaving and row.least:
            answer = self._let_leave(claims, message)
        if not suspect:
            return answer
        # A stall is followed up at once; most heartbeats only wait to be written.
        self.flush()
        with self._database.read() as session:
            run = state.speaker(session, claims.uid, message)
            return answers.directions(run, state.current(session, run))

    def _let_leave(self, claims: Claims, message: messages.Heartbeat) -> messages.HeartbeatAnswer:
        with self._database.write() as session:
            run = state.speaker(session, claims.uid, message, lock=True)
            row = state.current(session, run)
            if elastic.depart(session, run, row, message, now_s=self._parts.clock.now()):
                self._tell(session, run)
            return answers.directions(run, row)

    def exited(self, claims: Claims, message: messages.RankExit) -> messages.HeartbeatAnswer:
        """Store that a rank ended and decide what that means. Idempotent per rank.

        Raises:
            Stale: The attempt is over or has not begun.
            InvalidSpec: The generation has no such rank.
        """
        now_s = self._parts.clock.now()
        # What the ranks last reported decides about UserError, so it is written down first.
        self.flush()
        with self._database.write() as session:
            run = state.speaker(session, claims.uid, message, lock=True)
            row = state.current(session, run)
            fresh = transitions.store_exit(session, claims.uid, message, now_s=now_s)
            if state.earlier(run, row, message):
                # The exit of an earlier generation is a fact; at most it corrects the cause.
                if fresh and transitions.settle_late(session, row, message):
                    self._tell(session, run)
                return messages.HeartbeatAnswer(
                    directive="regenerate", state=state.word(row), generation=row.generation
                )
            if message.leaving:
                elastic.leave(session, row, message, now_s=now_s)
            if fresh and row.state in GOING:
                transitions.settle(session, run, row, now_s=now_s)
                self._tell(session, run)
            newest = state.current(session, run)
            answer = answers.directions(run, newest)
            if newest.generation != message.generation:
                answer = answer.model_copy(update={"directive": "regenerate"})
        self.changed.notify()
        return answer

    def check_saving(self, claims: Claims, message: messages.Envelope) -> None:
        """Refuse an agent whose checkpoints nobody may resume from any more.

        Raises:
            Stale: It is not.
        """
        with self._database.read() as session:
            self._fenced(session, claims.uid, message)

    def commit(self, claims: Claims, message: messages.CheckpointCommit) -> tables.CheckpointRow:
        """Commit a checkpoint: one transaction that checks the generation.

        Raises:
            Stale: A newer attempt or generation exists.
            InvalidSpec: Files or manifest are not as they must be.
            Conflict: Another checkpoint is committed for this step.
        """
        self.check_saving(claims, message)
        checkpoints.verify_commit(self._parts.objects, claims.uid, message)
        with self._database.write() as session:
            run = self._fenced(session, claims.uid, message, lock=True)
            row = checkpoints.store(session, message, uid=claims.uid, now_s=self._parts.clock.now())
            self._tell(session, run)
        return row

    def lose(self, uid: str, *, silent_since_s: float) -> bool:
        """Take agents of a trial that were silent since then out of its newest generation.

        A running generation is followed by a new one (or fails); a forming one waits for others.
        Returns whether anything changed.
        """
        with self._database.write() as session:
            run = state.run_of(session, uid, lock=True)
            row = state.newest(session, uid, run.attempt) if run is not None else None
            if run is None or row is None or row.state in state.TERMINAL:
                return False
            gone = [
                agent
                for agent in state.agents(session, uid, run.attempt)
                if agent.generation == row.generation and agent.seen_s < silent_since_s
            ]
            if not gone:
                return False
            if row.state in GOING:
                lost = {(agent.role, agent.index) for agent in gone}
                now_s = self._parts.clock.now()
                if not stalls.hear_survivors(session, row, lost, now_s=now_s):
                    return False
                loss = transitions.agent_loss(
                    row,
                    gone[0].role,
                    gone[0].index,
                    reason="AgentLost",
                    what="was silent for too long",
                )
                transitions.step_down(session, run, row, loss=loss, now_s=now_s)
            for agent in gone:
                agent.generation = 0
            self._tell(session, run)
        self.changed.notify()
        return True

    def flush(self) -> int:
        """Write the heartbeats since the last flush in one transaction; return how many."""
        beats = self.pulse.take()
        if not beats:
            return 0
        try:
            with self._database.write() as session:
                moved = pulse.store(session, beats)
                changed = {uid for uid in pulse.doubtful(beats) if self._watch(session, uid)}
                for uid in sorted(moved | changed):
                    run = state.run_of(session, uid)
                    if run is not None:
                        self.outbox_append(session, run)
        except errors.Unavailable:
            self.pulse.put_back(beats)
            raise
        if changed:
            self.changed.notify()
        return len(beats)

    def _watch(self, session: orm.Session, uid: str) -> bool:
        """Look whether a trial stands still; return whether that changed something."""
        run = state.run_of(session, uid, lock=True)
        row = state.newest(session, uid, run.attempt) if run is not None else None
        if run is None or row is None:
            return False
        now_s = self._parts.clock.now()
        changed = stalls.watch(session, run, row, now_s=now_s)
        if changed:
            run.updated_s = now_s
        return changed

    def outbox_append(self, session: orm.Session, run: tables.TrialRun) -> None:
        """Note in the outbox that a trial changed."""
        self._parts.outbox.append(session, "Trial", run.namespace, run.name)

    def request_stop(self, uid: str, *, namespace: str, name: str) -> None:
        """Remember that a person asked a trial to stop; agents hear it at their next heartbeat."""
        now_s = self._parts.clock.now()
        with self._database.write() as session:
            self._database.serialize(session, f"trial {uid}")
            run = state.run_of(session, uid, lock=True)
            if run is None:
                run = transitions.new_run(uid, namespace=namespace, name=name, now_s=now_s)
                session.add(run)
            if run.stop_s is None:
                run.stop_s = now_s
            self._tell(session, run)
        self.changed.notify()

    def _fenced(
        self, session: orm.Session, uid: str, message: messages.Envelope, *, lock: bool = False
    ) -> tables.TrialRun:
        run = state.run_of(session, uid, lock=lock)
        row = state.newest(session, uid, run.attempt) if run is not None else None
        stale = state.behind(run, row, message)
        if run is None or row is None or (stale and not state.is_rescue(run, row, message)):
            raise stale or errors.NotFound(f"Trial {uid} has not joined.")
        return run

    def _tell(self, session: orm.Session, run: tables.TrialRun) -> None:
        run.updated_s = self._parts.clock.now()
        self.outbox_append(session, run)

    def _run(
        self, session: orm.Session, claims: Claims, message: messages.Join, now_s: float
    ) -> tables.TrialRun:
        # The first agents of a trial meet no row that they could lock.
        self._database.serialize(session, f"trial {claims.uid}")
        run = state.run_of(session, claims.uid, lock=True)
        if run is None:
            run = transitions.new_run(
                claims.uid, namespace=claims.namespace, name=claims.trial, now_s=now_s
            )
            session.add(run)
        if message.attempt > run.attempt:
            run.started_s = transitions.began(session, run, now_s=now_s)
            run.attempt = message.attempt
            session.add(transitions.first_generation(claims.uid, message, now_s=now_s))
            self._tell(session, run)
        session.flush()
        return run

    def _generation(
        self,
        session: orm.Session,
        run: tables.TrialRun,
        message: messages.Join,
    ) -> tables.Generation:
        row = state.newest(session, run.uid, run.attempt)
        if row is None or message.attempt < run.attempt:
            stale = state.behind(run, row, message)
            raise stale or errors.NotFound(f"Attempt {run.attempt} has no generation.")
        answers.check_plan(row, message)
        return row

    def _advance(self, uid: str) -> bool:
        """Begin what is complete, or let ranks leave for newcomers; return whether it did."""
        now_s = self._parts.clock.now()
        with self._database.read() as session:
            run = state.run_of(session, uid)
            row = state.newest(session, uid, run.attempt) if run is not None else None
            if run is None or row is None:
                return False
            key = (uid, row.attempt, row.generation)
            forming = row.state == "forming"
            ready = forming and elastic.is_complete(session, row, self._pace, now_s=now_s)
            due = row.least > 0 and elastic.is_due(session, row, self._pace, now_s=now_s)
        if ready:
            self._form(key)
        elif due:
            with self._database.write() as session:
                run = state.run_of(session, uid, lock=True)
                row = session.get(tables.Generation, key)
                if run is not None and row is not None:
                    elastic.grow(session, row, self._pace, now_s=now_s)
                    self._tell(session, run)
        return ready or due

    def _form(self, key: tuple[str, int, int]) -> None:
        """Give a complete generation its plan; whoever swaps first decides."""
        uid, attempt, generation = key
        with self._database.read() as session:
            saved = checkpoints.committed(session, uid)
        # Reading the store takes time, so it happens outside of the transaction.
        resume = checkpoints.resume_point(self._parts.objects, saved, ttl_s=3600)
        with self._database.write() as session:
            run = state.run_of(session, uid, lock=True)
            row = session.get(tables.Generation, key)
            if run is None or row is None or row.state != "forming":
                return
            now_s = self._parts.clock.now()
            if not elastic.is_complete(session, row, self._pace, now_s=now_s):
                return
            joined = state.joined(session, row)
            elapsed_s = max(0.0, now_s - run.started_s)
            plan = plans.plan(key, joined, elapsed_s=elapsed_s, resume=resume)
            step = resume.step if resume is not None else -1
            body = plan.model_dump(mode="json")
            before = session.get(tables.Generation, (uid, attempt, generation - 1))
            why = elastic.reason(state.plan_of(before) if before else None, plan, row)
            also = {"plan": body, "resume_step": step, "since_s": now_s, "why": why}
            if state.swap(session, row, "running", **also):
                transitions.add_ranks(session, row, plan, now_s=now_s)
                run.step, run.total_steps = step, run.total_steps
                self._tell(session, run)
