"""Where things lie in the state folder of a replica. Shared by the agent and its ranks.

::

    lock  identity.json  exit.json        who the agent is and how it ended
    bundle/                               the unpacked code bundle
    checkpoints/g<G>-step-<N>/            complete checkpoints of this replica's ranks
    resume/                               a downloaded checkpoint
    g<G>/run.json                         what the ranks of a generation do
    g<G>/spool/rank-<R>/{metrics,logs}/   records on their way to the API
    g<G>/rank-<R>.{progress,error}        step counter (binary), last words (JSON)
    g<G>/artifacts/                       what rank 0 publishes; appears whole

Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"
SERVERS = "ps"
"""The role of parameter servers, as in the plan."""
_CHECKPOINT = re.compile(r"^g(\d+)-step-(\d+)$")


@dataclass(frozen=True)
class Checkpoint:
    """A complete local checkpoint."""

    generation: int
    step: int
    folder: Path


@dataclass(frozen=True)
class GenerationFolder:
    """Paths of one generation."""

    root: Path

    @property
    def run_file(self) -> Path:
        """Return the file that tells the ranks what to do."""
        return self.root / "run.json"

    @property
    def spool(self) -> Path:
        """Return the folder of all streams."""
        return self.root / "spool"

    @property
    def artifacts(self) -> Path:
        """Return the folder of published files."""
        return self.root / "artifacts"

    def stream(self, rank: int, name: str) -> Path:
        """Return the folder of one stream (``metrics`` or ``logs``) of a rank."""
        return self.spool / f"rank-{rank}" / name

    def progress(self, rank: int) -> Path:
        """Return the step counter of a rank."""
        return self.root / f"rank-{rank}.progress"

    def error(self, rank: int) -> Path:
        """Return the last words of a rank."""
        return self.root / f"rank-{rank}.error"


@dataclass(frozen=True)
class StateFolder:
    """Paths of one replica."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Return the folder of complete local checkpoints."""
        return self.root / "checkpoints"

    @property
    def bundle(self) -> Path:
        """Return where the code bundle is unpacked."""
        return self.root / "bundle"

    @property
    def resume(self) -> Path:
        """Return where a downloaded checkpoint lies."""
        return self.root / "resume"

    def generation(self, number: int) -> GenerationFolder:
        """Return the paths of a generation."""
        return GenerationFolder(self.root / f"g{number}")


def checkpoint_name(generation: int, step: int) -> str:
    """Return the folder name of a local checkpoint."""
    return f"g{generation}-step-{step}"


def local_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the complete checkpoints of a folder, oldest first."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _CHECKPOINT.match(path.name)
        if match and (path / MANIFEST).is_file():
            found.append(Checkpoint(int(match[1]), int(match[2]), path))
    return sorted(found, key=lambda entry: (entry.generation, entry.step))
