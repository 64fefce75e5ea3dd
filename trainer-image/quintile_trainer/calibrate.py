"""``python -m quintile_trainer.calibrate``: measure this machine for a minute, write JSON.

Run by ``quintile plan --calibrate``; ``quintile.core.scaling.records`` says what the JSON means.
Threads are planned before any numeric library loads, as in a run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from quintile_trainer import threads

DECODING_S = 1.0
SMALLEST_SIDE = 8


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; return the exit code."""
    asked = _parser().parse_args(arguments)
    processors = usable_processors()
    count = asked.threads or max(1, int(processors) // 2)
    threads.apply(count)
    from quintile_trainer.calibration import ranks

    try:
        document = _measure(asked, processors, count)
    except ranks.RankFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    written = asked.out.with_name(f".{asked.out.name}.{os.getpid()}")
    written.write_text(json.dumps(document), encoding="utf-8")
    written.replace(asked.out)
    return 0


def usable_processors() -> float:
    """Return how many processors this process may use; a quota counts."""
    quota = threads.quota()
    return min(float(threads.available()), quota if quota is not None else float("inf"))


def machine(processors: float, count: int) -> dict[str, Any]:
    """Return the ``machine`` of a calibration."""
    import torch

    return {
        "processor": _processor(),
        "processors": processors,
        "threads": count,
        "load": os.getloadavg()[0],
        "software": {"python": platform.python_version(), "torch": torch.__version__},
    }


def _measure(asked: argparse.Namespace, processors: float, count: int) -> dict[str, Any]:
    import torch

    from quintile.core.scaling import records
    from quintile_trainer.calibration import ranks, session, steps

    torch.set_num_threads(count)
    begun = time.monotonic()
    wanted = steps.Wanted(asked.model, asked.batch, asked.image, asked.classes)
    about = machine(processors, count)
    effort = session.Effort(budget_s=asked.seconds, threads=count)
    with (
        tempfile.TemporaryDirectory() as folder,
        ranks.team(2, Path(folder), threads=count) as team,
    ):
        found = session.measure(team, [wanted], effort)
        decoded = session.loader(team, asked.image, DECODING_S)
    return {
        **found,
        "format": records.FORMAT,
        "made_at": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "took_s": time.monotonic() - begun,
        "machine": about,
        "loader": decoded,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quintile_trainer.calibrate", description=__doc__)
    parser.add_argument("--model", default="resnet8", help="built-in model")
    parser.add_argument("--batch", type=_whole, default=32, help="images of a worker's step")
    parser.add_argument("--image", type=_image, default=(28, 28, 1), help="as 28x28x1")
    parser.add_argument("--classes", type=_whole, default=10)
    parser.add_argument("--threads", type=int, default=0, help="of a worker; 0 = half of all")
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long to measure")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    return parser


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def _image(text: str) -> tuple[int, int, int]:
    parts = [int(part) for part in text.split("x")]
    if len(parts) != 3 or min(parts[:2]) < SMALLEST_SIDE or parts[2] not in (1, 3):
        raise argparse.ArgumentTypeError(
            f"{text} is no HEIGHTxWIDTHxCHANNELS, sides from {SMALLEST_SIDE}, 1 or 3 channels"
        )
    return parts[0], parts[1], parts[2]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
