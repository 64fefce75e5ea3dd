"""Write the lock files: every package with its version and hashes, no registry named.

Called by ``make lock``. Needs ``uv`` on PATH. ``torch-cpu.lock`` is ``torch-cuda.lock`` without
the packages that only CUDA builds need, with the CPU builds in ``CPU_BUILDS`` on Linux.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
TORCH = "2.13.0"
CPU_BUILDS = {
    "2.13.0+cpu cp311 manylinux x86_64": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
    ),
}
ONLY_CUDA = re.compile(r"^(nvidia-|cuda-|triton)")


def compile_lock(output: Path, *sources: str) -> None:
    """Resolve ``sources`` for all supported Pythons and platforms into ``output``."""
    command = ["uv", "pip", "compile", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    subprocess.run([*command, *sources, "-o", str(output)], check=True)


def entries(text: str) -> Iterator[str]:
    """Yield each package of a lock file with its hash lines."""
    yield from re.findall(r"^\S.*(?:\n[ ].*)*\n", text, flags=re.MULTILINE)


def cpu_lock(text: str) -> str:
    """Return the lock of a CPU build from the lock of the CUDA build.

    On Linux the CPU build has a local version of its own, so that pip cannot take the other.
    """
    kept = [entry for entry in entries(text) if not ONLY_CUDA.match(entry)]
    digests = "".join(f" \\\n    --hash=sha256:{digest}" for digest in CPU_BUILDS.values())
    linux = f"torch=={TORCH}+cpu ; sys_platform == 'linux'{digests}\n"
    elsewhere = f"torch=={TORCH} ; sys_platform != 'linux'"
    return "".join(
        entry.replace(f"torch=={TORCH}", elsewhere, 1) + linux
        if entry.startswith("torch==")
        else entry
        for entry in kept
    )


def main() -> int:
    """Write all three lock files."""
    base = HERE / "base.lock"
    compile_lock(base, "--extra", "dev", str(HERE.parent / "pyproject.toml"))
    with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
        wanted.write(f"torch=={TORCH}\n")
        wanted.flush()
        compile_lock(HERE / "torch-cuda.lock", "-c", str(base), wanted.name)
    (HERE / "torch-cpu.lock").write_text(cpu_lock((HERE / "torch-cuda.lock").read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
