"""Who owns processes: subprocess groups here, Indexed Jobs in the cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from quintile.core import meta, runplan


class Executor(Protocol):
    """Starts, sees and ends the replicas of trial attempts."""

    def ensure(self, run: runplan.RunPlan) -> None:
        """Make every replica of ``run`` exist. Idempotent: an existing or ended replica stays.

        The replicas of an elastic attempt (``run.elastic``) come and go while it runs, and ``run``
        says all of them. Besides what is missing, a replica that is lost, or that exited with
        anything but 0, is started again under its name: a new process or pod with the plan of
        now, at once the first time and after a growing pause when it keeps ending (calls before
        that change nothing). One that lives keeps the plan that it began with. A replica of the
        attempt that ``run`` names no more (the highest indices, after a resize) is asked to leave:
        SIGTERM, ``run.grace_s`` later SIGKILL, and forgotten once it is gone, as ``delete`` does;
        until then ``observe`` shows it. Indices are those of the plan: 0 to n - 1, never reused for
        another role.

        Raises:
            Conflict: A replica of that name belongs to another trial.
            Unavailable: No process or pod can be made now; try again.
        """
        ...

    def trials(self) -> Mapping[str, meta.Key]:
        """Return the key by uid of every trial that holds replicas, ended ones too.

        So that replicas of deleted trials are found, whenever their trial was deleted.
        """
        ...

    def holders(self, key: meta.Key) -> Collection[str]:
        """Return the uids of trials that hold replicas and are called ``key``; see ``trials``.

        Cheap, whatever other trials there are: asked at every look.
        """
        ...

    def observe(self, trial_uid: str) -> tuple[runplan.ObservedReplica, ...]:
        """Return all replicas of all attempts of a trial, ordered by (attempt, role, index)."""
        ...

    def delete(self, trial_uid: str, *, attempt: int | None = None, grace_s: float = 0.0) -> None:
        """End and forget the replicas (of one attempt, or all). Idempotent; does not wait.

        ``grace_s`` is the time between SIGTERM and SIGKILL; 0 kills at once.
        """
        ...

    def addresses(self, run: runplan.RunPlan) -> dict[str, str]:
        """Return host by replica name, known before anything starts. Pure."""
        ...

    def logs(self, trial_uid: str, *, attempt: int, name: str) -> Iterator[bytes]:
        """Yield the agent's own output (not the ranks' lines, which the API holds).

        Raises:
            NotFound: No such replica.
        """
        ...
