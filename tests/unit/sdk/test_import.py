"""Importing the SDK stays cheap: nothing heavy loads before it is used."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("pydantic", "httpx", "tqdm", "cloudpickle", "torch", "numpy", "yaml", "pandas")
PROGRAM = """
import json, sys
import quintile.sdk
from quintile.sdk import Dataset, Estimator, Experiment, HParams, LabelingJob, RunConfig, connect
Estimator.NewClassificationEstimator(model_fn=print)
HParams(iterations=1)
RunConfig(no_of_workers=2)
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(program: str) -> set[str]:
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(found.stdout))


def test_nothing_heavy_is_imported() -> None:
    assert modules_after(PROGRAM).isdisjoint(HEAVY)


def test_help_imports_no_client() -> None:
    program = "import json, sys\nimport quintile.cli.main\nprint(json.dumps(sorted(sys.modules)))"
    assert modules_after(program).isdisjoint(HEAVY)


def test_every_public_name_is_there() -> None:
    import quintile.sdk

    assert sorted(quintile.sdk._HOMES) == sorted(quintile.sdk.__all__) == dir(quintile.sdk)
    for name in quintile.sdk.__all__:
        assert getattr(quintile.sdk, name).__name__ == name
