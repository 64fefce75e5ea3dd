"""The operator as a process of this machine, whose pods go to the nodes of kwok."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from quintile.adapters import tokens_ed25519

PATIENCE_S = 900.0
WRITES = ("POST", "PATCH", "PUT", "DELETE")
ON_KWOK = """
import dataclasses, sys
from quintile_operator import main
plain = main.pod_site
taint = {"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}
main.pod_site = lambda told: dataclasses.replace(
    plain(told), node_selector={"type": "kwok"}, tolerations=(taint,)
)
sys.exit(main.main())
"""
"""The operator, with pods that go to the nodes of kwok."""


@dataclass
class Operator:
    """The process, and where it tells its figures."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu_s(self) -> float:
        """Return the processor seconds that it took so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Return the memory that it holds now."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found.group(1)) / 1000

    def writes(self) -> int:
        """Return the requests that changed something; the Lease left out."""
        return sum(self.written().values())

    def written(self) -> dict[str, int]:
        """Return the requests that changed something, by verb and resource, by its own count."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        text = urllib.request.urlopen(url, timeout=30).read().decode()
        found: dict[str, int] = {}
        for line in text.splitlines():
            one = re.match(r"quintile_operator_api_requests_total\{(.*)\} ([\d.e+]+)", line)
            labels = dict(re.findall(r'(\w+)="([^"]*)"', one.group(1))) if one else {}
            if one and labels["verb"] in WRITES and labels["resource"] != "leases":
                name = f"{labels['verb']} {labels['resource']} {labels['code']}"
                found[name] = found.get(name, 0) + round(float(one.group(2)))
        return found


@contextlib.contextmanager
def started(places: tuple[str, ...], url: str) -> Iterator[Operator]:
    """Run the operator as a process; its log lies beside the program's temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        keys = pathlib.Path(folder)
        (keys / "trial.pem").write_bytes(tokens_ed25519.new_private_pem())
        (keys / "service-token").write_text(secrets.token_hex(16))
        port = 20000 + secrets.randbelow(20000)
        env = {
            **{name: text for name, text in os.environ.items() if not name.startswith("QUINTILE_")},
            "QUINTILE_KEYS": folder,
            "QUINTILE_HOST": "127.0.0.1",
            "QUINTILE_PORT": "0",
            "QUINTILE_METRICS_PORT": str(port),
            "QUINTILE_API_URL": url,
            "QUINTILE_KUBERNETES__NAMESPACES": ",".join(places),
            "QUINTILE_KUBERNETES__NAMESPACE": places[0],
            "QUINTILE_KUBERNETES__WORKER_IMAGE": "quintile-trainer:fake",
            "QUINTILE_KUBERNETES__NETWORK_POLICIES": "false",
            "QUINTILE_LOGS__LEVEL": os.environ.get("BENCH_LOG", "warning"),
        }
        process = subprocess.Popen([sys.executable, "-c", ON_KWOK], env=env)
        operator = Operator(process, port)
        try:
            wait(lambda: ready(operator))
            yield operator
        finally:
            process.terminate()
            process.wait(60)


def ready(operator: Operator) -> bool:
    """Return whether the operator is at work.

    Raises:
        SystemExit: It ended.
    """
    if operator.process.poll() is not None:
        raise SystemExit(f"the operator ended with code {operator.process.returncode}")
    with contextlib.suppress(OSError):
        url = f"http://127.0.0.1:{operator.port}/metrics"
        text = urllib.request.urlopen(url, timeout=5).read().decode()
        return "quintile_operator_leader 1.0" in text
    return False


def wait(done: Callable[[], Any], *, every_s: float = 0.5) -> None:
    """Return when something is so.

    Raises:
        TimeoutError: It is not so in a quarter of an hour.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not get there in time")
        threading.Event().wait(every_s)
