"""An mpirun that lives and starts no rank: found by the limit on a start, told, and ended."""

from __future__ import annotations

import os
from typing import Any

HANGS = "#!/bin/sh\necho 'a daemon is waited for' >&2\nexec sleep 3600\n"


def test_an_mpirun_that_starts_no_rank_is_a_failure_with_a_reason(bench: Any) -> None:
    programs = bench.folder / "bin"
    programs.mkdir()
    for name in ("mpirun", "orted"):
        (programs / name).write_text(HANGS)
        (programs / name).chmod(0o755)
    run = bench.script(
        "print('never')",
        run={"mode": "mpi", "workers": {"replicas": 2}},
        telemetry={"startTimeoutSeconds": 1},
        failure={"maxInPlaceRestarts": 1},
    )
    both = run.start(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert [agent.wait() for agent in both] == [1, 1]
    facts = run.facts
    # Once in place, and not for ever.
    assert (facts.state, facts.generation, facts.failure.reason) == ("failed", 2, "MpiFailed")
    assert facts.failure.first_error.startswith("mpirun has not started rank ")
    assert "telemetry.startTimeoutSeconds is 1" in facts.failure.first_error
