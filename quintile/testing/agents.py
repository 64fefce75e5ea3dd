"""Real agents as processes, started from a real plan; for tests of the trainer and the coordinator.

``Attempt`` plans a trial as the reconciler does and starts its agents as an Executor would: token
and state folder beside the plan's own environment, output into a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quintile.core import experiment, plan, runplan
from quintile.core.meta import API_VERSION

DEADLINE_S = 180.0
POLL_S = 0.01
NOT_FOR_AGENTS = ("QUINTILE_", "PYTEST_", "COV_")


@dataclass
class Agent:
    """One agent process and the folder it works in."""

    process: subprocess.Popen[bytes]
    state: pathlib.Path
    output: pathlib.Path

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Return the exit code; raises with the agent's output when it does not end in time."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"the agent runs on after {timeout_s} s\n{self.said}") from error

    def terminate(self) -> None:
        """Ask the agent to leave."""
        self.process.send_signal(signal.SIGTERM)

    @property
    def exit_record(self) -> dict[str, Any]:
        """Return what the agent wrote at its end; empty while there is nothing."""
        with contextlib.suppress(FileNotFoundError):
            record: dict[str, Any] = json.loads((self.state / "exit.json").read_text())
            return record
        return {}

    @property
    def said(self) -> str:
        """Return the agent's own output."""
        return self.output.read_text(errors="replace")

    def ranks(self) -> dict[int, int]:
        """Return the pids of live ranks by rank, found as children of the agent."""
        found = {}
        for pid in children(self.process.pid):
            with contextlib.suppress(OSError, StopIteration):
                found[rank_of(pid)] = pid
        return found


@dataclass
class Attempt:
    """One attempt of a trial with an API at ``url``; agents live below ``folder``.

    ``hosts`` and ``prefixes`` are addresses and commands before the agent's, by its place.
    """

    folder: pathlib.Path
    url: str
    token: str
    trial: experiment.Trial
    attempt: int = 1
    variables: Mapping[str, str] | None = None
    hosts: Mapping[int, str] = field(default_factory=dict)
    prefixes: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.agents: list[Agent] = []

    @property
    def run(self) -> runplan.RunPlan:
        """Return the plan of the attempt."""
        return plan.plan_trial(
            self.trial,
            attempt=self.attempt,
            api_url=self.url,
            python=sys.executable,
            token=self.token,
            hosts={},
        )

    def resize(self, workers: int) -> None:
        """Plan another number of workers from now on; the ranks are told what was submitted."""
        spec = self.trial.spec
        run = spec.template.run
        sized = run.workers.model_copy(update={"replicas": workers})
        template = spec.template.model_copy(
            update={"run": run.model_copy(update={"workers": sized})}
        )
        first = spec.batch_workers or run.workers.replicas
        update = {"template": template, "batch_workers": first}
        self.trial = self.trial.model_copy(update={"spec": spec.model_copy(update=update)})

    def start(self) -> list[Agent]:
        """Start every agent of the attempt."""
        return [self.start_one(index) for index in range(len(self.run.replicas))]

    def start_one(self, index: int) -> Agent:
        """Start (or start again) one agent in its state folder."""
        run = self.run
        replica = run.replicas[index]
        state = self.folder / replica.name
        state.mkdir(parents=True, exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(NOT_FOR_AGENTS)}
        env = {
            **inherited,
            **dict(replica.env),
            "QUINTILE_TOKEN": run.token,
            "QUINTILE_STATE_DIR": str(state),
            "QUINTILE_CACHE_DIR": str(self.folder / "cache"),
            "QUINTILE_HEARTBEAT_S": "0.2",
            **(self.variables or {}),
            **({"QUINTILE_HOST": self.hosts[index]} if index in self.hosts else {}),
        }
        output = self.folder / f"{replica.name}.log"
        with output.open("ab") as file:
            process = subprocess.Popen(
                [*self.prefixes.get(index, ()), *replica.argv],
                env=env,
                cwd=self.folder,
                stdout=file,
                stderr=file,
            )
        agent = Agent(process, state, output)
        self.agents.append(agent)
        return agent

    def end(self) -> None:
        """Kill what still runs."""
        for agent in self.agents:
            if agent.process.poll() is None:
                for pid in agent.ranks().values():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                agent.process.kill()
            agent.process.wait()


def trial_of(
    spec: Mapping[str, Any],
    *,
    uid: str,
    name: str = "digits-t0-abcdef",
    hparams: Mapping[str, object] | None = None,
) -> experiment.Trial:
    """Return a Trial with this template spec (camelCase) and hyperparameters."""
    given = [{"name": key, "value": str(value)} for key, value in (hparams or {}).items()]
    document = {
        "apiVersion": API_VERSION,
        "kind": "Trial",
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {
            "experiment": "digits",
            "experimentUid": "experiment-uid",
            "number": 0,
            "hparams": given,
            "template": {**spec, "hparams": given},
        },
    }
    return experiment.Trial.model_validate(document)


def rank_of(pid: int) -> int:
    """Return which rank a process is.

    Raises:
        OSError: There is no such process.
        StopIteration: It is no rank.
    """
    name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    if name.startswith("rank-"):
        # Forked from a zygote: the environment shown is not its own.
        return int(name.removeprefix("rank-"))
    variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    rank = next(one for one in variables if one.startswith(b"RANK="))
    return int(rank.partition(b"=")[2])


def children(parent: int) -> Iterator[int]:
    """Yield the pids of a process's children."""
    for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from (int(word) for word in task.read_text().split())


def listening(pid: int) -> set[str]:
    """Return the addresses (as the kernel's hex digits, without ports) that a process listens on.

    ``0100007F`` is 127.0.0.1 and ``00000000`` every address.
    """
    inodes = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].partition(":")[0])
    return found


def until(holds: Callable[[], Any], *, what: str, timeout_s: float = DEADLINE_S) -> Any:
    """Return what ``holds`` returns as soon as that is true; looks every 10 ms.

    Raises:
        TimeoutError: It did not come true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen in {timeout_s} s")
        time.sleep(POLL_S)
    return found


def trainers(agent: int) -> Iterator[int]:
    """Yield the pids of an agent's ranks and servers: its children but the zygote."""
    for pid in children(agent):
        with contextlib.suppress(OSError):
            started = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            name = pathlib.Path(f"/proc/{pid}/comm").read_text()
            # A zygote has no name of its own while it loads; a rank that it forked is called so.
            if b"quintile_trainer.zygote" not in started or name.startswith("rank-"):
                yield pid
