"""An agent in a few lines, for tests of the executor: it keeps the agent's files, runs no ranks.

Run as a script. SIGTERM: exit record 75; SIGUSR1: 0; SIGUSR2: 1; SIGALRM: it vanishes without a
record, also where it is the first process of a pod. ``FAKE_AGENT`` holds words:
``stubborn`` ignores SIGTERM, ``silent`` never writes who it is, ``parent`` starts a child that
sleeps, ``runaway`` starts one in a session of its own, ``loud`` writes two megabytes, ``crash``
ends with an error before anything else. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import uuid
from typing import Any

ENDS = {
    signal.SIGTERM: (75, "Preempted"),
    signal.SIGUSR1: (0, "Completed"),
    signal.SIGUSR2: (1, "UserError"),
}
SLEEPER = [sys.executable, "-S", "-c", "import signal; signal.pause()"]


def main() -> None:
    """Live until a signal says how to end."""
    words = os.environ.get("FAKE_AGENT", "").split()
    if "crash" in words:
        sys.exit("fake agent: nothing works here")
    folder = pathlib.Path(os.environ["QUINTILE_STATE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    boot_id = uuid.uuid4().hex

    def end(number: int, _frame: Any) -> None:
        if number == signal.SIGTERM and "stubborn" in words:
            return
        code, reason = ENDS[signal.Signals(number)]
        record = {"exit_code": code, "reason": reason, "message": "", "boot_id": boot_id}
        _write(folder / "exit.json", record)
        if os.environ.get("QUINTILE_EXIT_FILE"):
            pathlib.Path(os.environ["QUINTILE_EXIT_FILE"]).write_text(json.dumps(record))
        os._exit(code)

    for number in ENDS:
        signal.signal(number, end)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(137))
    if "loud" in words:
        sys.stdout.write("a line of output\n" * 130_000)
    for word, own_session in (("parent", False), ("runaway", True)):
        if word in words:
            child = subprocess.Popen(SLEEPER, start_new_session=own_session)
            _write(folder / f"{word}.json", {"pid": child.pid})
    if "silent" not in words:
        lock = (folder / "lock").open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write(folder / "identity.json", _identity(folder, boot_id))
    sys.stdout.write(f"agent of attempt {os.environ['QUINTILE_ATTEMPT']}\n")
    sys.stdout.flush()
    while True:
        signal.pause()


def _identity(folder: pathlib.Path, boot_id: str) -> dict[str, Any]:
    stat = pathlib.Path("/proc/self/stat").read_text()
    return {
        "pid": os.getpid(),
        "start_time": int(stat.rpartition(")")[2].split()[19]),
        "boot_id": boot_id,
        "trial_uid": os.environ["QUINTILE_TRIAL_UID"],
        "attempt": int(os.environ["QUINTILE_ATTEMPT"]),
        "name": folder.name,
    }


def _write(path: pathlib.Path, value: dict[str, Any]) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(value))
    draft.replace(path)


if __name__ == "__main__":
    main()
