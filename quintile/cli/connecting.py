"""The connection of a command, closed when the command ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from quintile.sdk import blocking, configuration


@contextlib.contextmanager
def session(project: str | None = None) -> Iterator[blocking.Session]:
    """Yield the session of this command; handles of the SDK use it too.

    Raises:
        Unavailable: No server is known.
    """
    found = blocking.use(blocking.Session(configuration.find(project=project)))
    try:
        yield found
    finally:
        blocking.forget()
        found.close()
