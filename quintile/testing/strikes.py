"""How processes in pods of a trial are killed, as faults of a machine would end them."""

from __future__ import annotations

import subprocess
from typing import Final

from quintile.testing import projects

_BREAK: Final = """
import re
for line in open("/proc/1/maps"):
    found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp .*(libc|ld-linux)", line)
    if found:
        first, last = (int(part, 16) for part in found.groups()[:2])
        with open("/proc/1/mem", "r+b", buffering=0) as memory:
            memory.seek(first)
            memory.write(b"\\xcc" * (last - first))
"""
"""Breaks the code of the first process of a pod: no signal from inside could end it."""

_RANKS: Final = """
import contextlib, os, pathlib, signal
from quintile.testing import agents
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError, StopIteration):
        agents.rank_of(int(entry.name))
        os.kill(int(entry.name), signal.SIGKILL)
        print("killed")
"""


def inside(project: projects.Project, pod: str, code: str) -> str:
    """Run Python code in a pod; return what it printed. The pod may end under it."""
    words = ["kubectl", "--namespace", project.namespace, "exec", pod, "--"]
    done = subprocess.run(
        [*words, "python", "-c", code], capture_output=True, text=True, check=False
    )
    assert "Permission" not in done.stderr, done.stderr
    return done.stdout


def first_process(project: projects.Project, pod: str) -> None:
    """End the first process of a pod, as an agent or an operator, without a word."""
    inside(project, pod, _BREAK)


def ranks(project: projects.Project, pod: str) -> None:
    """Kill the ranks in a pod; its agent lives on."""
    assert "killed" in inside(project, pod, _RANKS), f"no rank runs in pod {pod}"


def pod(project: projects.Project, name: str) -> None:
    """Delete a pod by force: nobody in it is asked."""
    words = ["kubectl", "--namespace", project.namespace, "delete", "pod", name]
    subprocess.run([*words, "--force", "--grace-period=0"], capture_output=True, check=True)
