"""Make ``.venv-peers``: the libraries that ``bench/training`` compares with.

Only benchmarks use it; nothing of Quintile depends on it. It sees the packages of ``.venv``; where
the libraries bring another torch along (torchvision does), theirs goes first, and a benchmark that
trains runs both sides here.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-peers"
LIBRARIES = (
    "webdataset==1.0.2",
    "mosaicml-streaming==0.13.0",
    "accelerate==1.15.0",
    "lightning==2.6.6",
)


def site(python: Path) -> str:
    """Return where the packages of an interpreter lie."""
    program = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> int:
    """Make the environment, or bring it up to date."""
    venv.create(PEERS, with_pip=True)
    python = PEERS / "bin" / "python"
    ours = site(ROOT / ".venv" / "bin" / "python")
    Path(site(python), "quintile.pth").write_text(ours + "\n")
    command = [python, "-m", "pip", "install", "--quiet", *LIBRARIES]
    code = subprocess.run(command, check=False).returncode
    if code == 0:
        sys.stdout.write(f"Ready: {PEERS}. Next: make bench-training\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
