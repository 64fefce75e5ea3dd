"""Make the virtual environment: what ``make setup`` runs. Standard library only.

Tells first what it will take (download, disk) and shows progress. Packages come through pip, so
that the user's index, mirror and certificate settings count. All are pinned by hash.

Which torch: ``TORCH=cpu|cuda|none``; unset = CUDA when an NVIDIA driver is present, else the CPU
build when pip is offered one (an extra index or find-links of yours), else what the index has.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TORCH = "2.13.0"
BEAT_S = 10.0


@dataclass(frozen=True)
class Build:
    """One choice of torch: its lock file (None = without), what it takes in MB."""

    lock: str | None
    download_mb: int
    disk_mb: int
    words: str


BUILDS = {
    "none": Build(None, 150, 700, "without torch: labeling works, training does not"),
    "cpu": Build("torch-cpu.lock", 350, 1700, "torch for CPU"),
    "cuda": Build("torch-cuda.lock", 3100, 7000, "torch with CUDA"),
}


class SetupError(Exception):
    """Something the user must change; the text says what and how."""


def main() -> int:
    """Install; return the exit code."""
    venv = Path(os.environ.get("VENV", ROOT / ".venv"))
    try:
        check_python()
        begun = time.monotonic()
        stamp = venv / ".quintile-setup"
        asked = os.environ.get("TORCH", "")
        if stamp.is_file() and up_to_date(json.loads(stamp.read_text()), asked):
            say("Everything is installed; nothing to do.")
            return 0
        make_venv(venv)
        choice = choose(asked, venv)
        announce(choice, venv)
        install(choice, venv)
        seconds = time.monotonic() - begun
        record = {"choice": choice, "digest": digest(choice), "seconds": round(seconds, 1)}
        stamp.write_text(json.dumps(record))
        say(f"Ready in {seconds:.0f} s. Next: make demo, or .venv/bin/quintile up")
    except SetupError as error:
        sys.stderr.write(f"setup: {error}\n")
        return 2
    return 0


def say(text: str) -> None:
    """Tell the user."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def check_python() -> None:
    """Refuse a Python that is too old or cannot make environments."""
    if sys.version_info < (3, 11):  # noqa: UP036  # it runs before anything checked
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"this is Python {found}; 3.11 or newer is needed. Run make setup PY=python3.11"
        )
    try:
        import ensurepip  # noqa: F401  # Debian leaves it out of python3
        import venv  # noqa: F401
    except ImportError as error:
        raise SetupError(
            "this Python cannot make virtual environments; install its venv package "
            "(on Debian and Ubuntu: apt-get install python3-venv)"
        ) from error


def digest(choice: str) -> str:
    """Return what an environment is made of, as one hash."""
    names = ["base.lock", BUILDS[choice].lock]
    parts = [(HERE / name).read_bytes() for name in names if name]
    parts.append((ROOT / "pyproject.toml").read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def up_to_date(record: dict[str, str], asked: str) -> bool:
    """Return whether the environment holds what is asked for already."""
    choice = record.get("choice", "")
    return choice in BUILDS and asked in ("", choice) and record.get("digest") == digest(choice)


def make_venv(venv: Path) -> None:
    """Make the environment if there is none."""
    if not (venv / "bin" / "python").exists():
        say(f"Making the virtual environment {venv} ...")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)


def choose(asked: str, venv: Path) -> str:
    """Return which build of torch to take."""
    if asked:
        if asked not in BUILDS:
            raise SetupError(f"TORCH is {asked!r}; expected cpu, cuda or none")
        return asked
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        return "cuda"
    if sys.platform == "darwin" or "+cpu" in offered(venv):
        return "cpu"
    say(
        "Note: no NVIDIA driver here, and pip is offered only the CUDA build of torch (about 3 GB)."
        "\nTo save that: set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds, or TORCH=none."
    )
    return "cuda"


def offered(venv: Path) -> str:
    """Return the version of torch that pip would take, local part included."""
    command = [venv / "bin" / "python", "-m", "pip", "install", "--dry-run", "--no-deps", "-q"]
    command += ["--ignore-installed", "--report", "-", f"torch=={TORCH}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        lines = found.stderr.strip().splitlines() or ["no message"]
        raise SetupError(
            f"pip cannot find torch {TORCH}: {lines[-1]}\n"
            "Check the network and pip's index settings, or run TORCH=none make setup"
        )
    return str(json.loads(found.stdout)["install"][0]["metadata"]["version"])


def announce(choice: str, venv: Path) -> None:
    """Say what it takes; refuse when the disk cannot hold it."""
    build = BUILDS[choice]
    free_mb = shutil.disk_usage(venv).free // 2**20
    say(
        f"Installing {build.words}: about {build.download_mb} MB to download, "
        f"{build.disk_mb} MB on disk; {free_mb} MB are free."
    )
    if free_mb < build.disk_mb:
        raise SetupError(
            f"{free_mb} MB are free beside {venv}, about {build.disk_mb} MB are needed; "
            "free some space, set VENV to another disk, or TORCH=none"
        )


def install(choice: str, venv: Path) -> None:
    """Install the pinned packages, then Quintile itself, editable."""
    lock = BUILDS[choice].lock
    steps = [("packages", ["--require-hashes", "-r", str(HERE / "base.lock")])]
    if lock:
        steps.append(("torch", ["--require-hashes", "-r", str(HERE / lock)]))
    steps.append(("quintile", ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]))
    for number, (name, arguments) in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {name}")
        pip(venv, arguments)


def pip(venv: Path, arguments: list[str]) -> None:
    """Run pip install; its own bars on a terminal, a line every few seconds elsewhere."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", *arguments]
    if not sys.stdout.isatty():
        command += ["--quiet", "--progress-bar", "off"]
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(over,), daemon=True)
    beat.start()
    try:
        code = subprocess.run(command, check=False).returncode
    finally:
        over.set()
        beat.join()
    if code != 0:
        raise SetupError(f"pip ended with code {code}; its message is above. Run make setup again")


def _beat(over: threading.Event) -> None:
    begun = time.monotonic()
    while not over.wait(BEAT_S):
        if not sys.stdout.isatty():
            say(f"      still installing, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
