"""``python -m quintile_trainer.ps``: one parameter server, told by JSON on its standard input.

For tests and benchmarks; a rank of the agent calls ``server.run``. The first line of the output is
the port, the last one the counters.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from quintile_trainer import failures
from quintile_trainer.ps import server, settings


def main() -> int:
    """Serve; return the exit code."""
    told = json.loads(sys.stdin.readline())
    torch.set_num_threads(int(told.get("threads", 1)))
    place = server.Place(_team(told["team"]), told["server"], told["host"])
    try:
        listener = server.listen(place)
        _say({"port": listener.getsockname()[1]})
        _say(server.run(place, told["secret"].encode(), listener=listener))
    except failures.RankFailure as error:
        sys.stderr.write(f"{failures.sentence(error)}\n")
        return error.code
    return 0


def _team(told: dict[str, Any]) -> settings.Team:
    limits = settings.Limits(**told.pop("limits", {}))
    return settings.Team(**told, limits=limits)


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
