"""What agents are told: directives, and plans with addresses for the checkpoint in them."""

from __future__ import annotations

from quintile import ports
from quintile.core import errors, messages
from quintile_api.coordinator import state
from quintile_api.runs import checkpoints, tables


def check_member(message: messages.Join) -> None:
    """Check that an agent is one of those that its plan names.

    Raises:
        InvalidSpec: It is not.
    """
    if message.index >= message.members.get(message.role, 0):
        raise errors.InvalidSpec(
            f"{message.role}-{message.index} is none of the members {message.members}.",
            hint="Role and index come from the plan of the attempt.",
            field="role",
        )


def check_plan(row: tables.Generation, message: messages.Join) -> None:
    """Check that an agent comes from the plan of its attempt, which only elastic runs change.

    Raises:
        InvalidSpec: It does not.
    """
    changeable = row.least > 0 and message.least > 0
    if row.members != message.members and not changeable:
        raise errors.InvalidSpec(
            f"{message.role}-{message.index} expects members {message.members}, but attempt "
            f"{row.attempt} began with {row.members}.",
            hint="All agents of an attempt must come from one plan.",
            field="members",
        )


def directions(run: tables.TrialRun, row: tables.Generation) -> messages.HeartbeatAnswer:
    """Return what an agent of the newest generation shall do."""
    stop = row.state in state.TERMINAL or run.stop_s is not None
    directive: messages.Directive = "stop" if stop else "continue"
    if not stop and row.state == "draining":
        directive = "drain"
    if not stop and row.state == "running" and row.stalled_s is not None:
        directive = "stacks"
    return messages.HeartbeatAnswer(
        directive=directive, state=state.word(row), generation=row.generation
    )


def with_urls(
    plan: messages.GenerationPlan, objects: ports.ObjectStore, *, ttl_s: int
) -> messages.GenerationPlan:
    """Return a plan whose resume point can be read."""
    if plan.resume is None:
        return plan
    key = plan.resume.key
    manifest = messages.CheckpointManifest.model_validate_json(objects.get(key))
    prefix = key.removesuffix(f"/{checkpoints.MANIFEST}")
    urls = {
        file.path: objects.url(f"{prefix}/{file.path}", method="GET", ttl_s=ttl_s)
        for file in manifest.files
    }
    address = objects.url(key, method="GET", ttl_s=ttl_s)
    resume = plan.resume.model_copy(update={"manifest_url": address, "urls": urls})
    return plan.model_copy(update={"resume": resume})
