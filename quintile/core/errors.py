"""The one error family of Quintile; every part raises these and maps them at its edge.

The tree, with the HTTP status (problem+json) and the exit code of the command line::

    QuintileError            500  1   something failed that nobody foresaw
    |- InvalidSpec           422  2   the caller must change what it sent
    |- TooLarge              413  2   the caller sent more than a limit allows
    |- Unauthorized          401  4   sign in first
    |- Forbidden             403  4   signed in, but not allowed
    |- NotFound              404  3   no such object (or not visible to the caller)
    |- Conflict              409  5   the object changed, exists already, or is owned by another
    |  `- Blocked            409  5   something in the way that people can take away
    |- Fenced                409  5   an older attempt or generation spoke; it must stop
    |- Unavailable           503  4   try again later
    |- StoreFull             507  4   no room left where bytes or rows go
    `- RunFailed             500  1   the run itself failed; carries its reason

A message says what failed, which object, what was expected; ``hint`` says what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class QuintileError(Exception):
    """Root of the family.

    Args:
        message: What failed, which object, what was expected.
        hint: What to do next, one sentence; empty when there is nothing to do.
        field: Path of the offending field (``spec.run.workers.replicas``), empty if none.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    type: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidSpec(QuintileError):
    """The caller sent something that can never work; permanent until it is changed."""

    status = 422
    exit_code = 2
    type = "invalid-spec"


class TooLarge(QuintileError):
    """The caller sent more than a limit allows; the message names limit and size."""

    status = 413
    exit_code = 2
    type = "too-large"


class Unauthorized(QuintileError):
    """No valid session or token came with the request."""

    status = 401
    exit_code = 4
    type = "unauthorized"


class Forbidden(QuintileError):
    """The caller is known but may not do this."""

    status = 403
    exit_code = 4
    type = "forbidden"


class NotFound(QuintileError):
    """No such object, or the caller may not know that it exists."""

    status = 404
    exit_code = 3
    type = "not-found"


class Conflict(QuintileError):
    """The object changed meanwhile, exists already, or belongs to another owner."""

    status = 409
    exit_code = 5
    type = "conflict"


class Blocked(Conflict):
    """Something stands in the way that people can take away; it is tried again by itself.

    Args:
        reason: CamelCase word of the condition that says so.
    """

    def __init__(
        self, message: str, *, hint: str = "", field: str = "", reason: str = "Blocked"
    ) -> None:
        super().__init__(message, hint=hint, field=field)
        self.reason = reason


class Fenced(QuintileError):
    """An older attempt, generation or lease holder spoke; it must stop and take the new plan."""

    status = 409
    exit_code = 5
    type = "fenced"


class Unavailable(QuintileError):
    """A part that this call needs is away.

    Args:
        retry_after_s: Seconds to wait before the next try.
    """

    status = 503
    exit_code = 4
    type = "unavailable"

    def __init__(
        self, message: str, *, hint: str = "", field: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, hint=hint, field=field)
        self.retry_after_s = retry_after_s


class StoreFull(QuintileError):
    """No room left on the disk or bucket; nothing half-written was kept."""

    status = 507
    exit_code = 4
    type = "store-full"


class RunFailed(QuintileError):
    """A trial, experiment or labeling job ended in failure.

    Args:
        reason: CamelCase reason word, the same in condition, event and log.
    """

    type = "run-failed"

    def __init__(self, message: str, *, hint: str = "", field: str = "", reason: str = "") -> None:
        super().__init__(message, hint=hint, field=field)
        self.reason = reason
