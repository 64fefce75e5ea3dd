"""Who gets which rank, and where the ranks of a generation meet. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quintile.core import messages, names

SERVERS = "ps"
ROLE_ORDER = ("worker", "launcher", SERVERS)


@dataclass(frozen=True)
class JoinedAgent:
    """An agent that is ready for the generation."""

    role: str
    index: int
    procs: int
    host: str
    port: int


def missing(members: Mapping[str, int], joined: Sequence[JoinedAgent]) -> list[str]:
    """Return the members that have not joined, as ``role-index``."""
    present = {(agent.role, agent.index) for agent in joined}
    return [
        f"{role}-{index}"
        for role, count in sorted(members.items())
        for index in range(count)
        if (role, index) not in present
    ]


def plan(
    key: tuple[str, int, int],
    joined: Sequence[JoinedAgent],
    *,
    elapsed_s: float = 0.0,
    resume: messages.ResumePoint | None = None,
) -> messages.GenerationPlan:
    """Return the plan of a generation; URLs of its resume point are made when asked for.

    Its key is the trial's uid, the attempt and its own number.
    Workers get the ranks from 0 in order of their index; other roles follow. ``world_size`` counts
    the workers' ranks. The ranks meet at the first parameter server, or else at rank 0's agent.
    """
    trial_uid, attempt, generation = key
    ordered = sorted(joined, key=lambda agent: (_place(agent.role), agent.role, agent.index))
    slots: list[messages.RankSlot] = []
    for agent in ordered:
        for local in range(agent.procs):
            slots.append(
                messages.RankSlot(
                    rank=len(slots), role=agent.role, index=agent.index, local_rank=local
                )
            )
    first = ordered[0].role
    meeting = next((agent for agent in ordered if agent.role == SERVERS), ordered[0])
    return messages.GenerationPlan(
        attempt=attempt,
        generation=generation,
        world_size=sum(slot.role == first for slot in slots),
        ranks=slots,
        master_host=meeting.host,
        master_port=meeting.port,
        resume=resume and resume.model_copy(update={"manifest_url": "", "urls": {}}),
        elapsed_s=elapsed_s,
        checkpoint_prefix=names.checkpoint_root(trial_uid, attempt=attempt, generation=generation),
        agents=[
            messages.AgentPlace(
                role=agent.role, index=agent.index, host=agent.host, port=agent.port
            )
            for agent in ordered
        ],
    )


def _place(role: str) -> int:
    return ROLE_ORDER.index(role) if role in ROLE_ORDER else len(ROLE_ORDER)
