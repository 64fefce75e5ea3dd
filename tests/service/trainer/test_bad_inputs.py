"""What users get wrong: each ends with a reason, the first line of the error, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.torch
SAMPLES = 64


def model_fn(_hparams: Mapping[str, Any]) -> nn.Module:
    return nn.Linear(4, 2)


def input_fn(_split: str, _hparams: Mapping[str, Any]) -> Any:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 4, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def broken_input_fn(split: str, hparams: Mapping[str, Any]) -> Any:
    inputs, targets = input_fn(split, hparams)
    inputs[:] = float("nan")
    return inputs, targets


def no_model_fn(_hparams: Mapping[str, Any]) -> Any:
    return {"layers": 3}


def raising_model_fn(hparams: Mapping[str, Any]) -> Any:
    return hparams["depth"] * 2


def vector_loss_fn(outputs: Any, targets: Any) -> Any:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


for function in (
    model_fn,
    input_fn,
    broken_input_fn,
    no_model_fn,
    raising_model_fn,
    vector_loss_fn,
):
    # Pickled by value, as functions of a notebook are: workers do not have this file.
    function.__module__ = "__main__"

FUNCTIONS = {"model_fn": model_fn, "input_fn": input_fn}
DATASET = {"name": "nothing-here", "version": 1}


def functions(hparams: Mapping[str, Any] | None = None, **changes: Any) -> Callable[[Any], Any]:
    given = {name: fn for name, fn in {**FUNCTIONS, **changes}.items() if fn is not None}
    texts = {"iterations": 30, **(hparams or {})}
    # What is not in vain is tried again; here once is enough to see how it ends.
    once = {"maxInPlaceRestarts": 0}
    return lambda bench: bench.functions(given, hparams=texts, failure=once)


def script(code: str, **spec: Any) -> Callable[[Any], Any]:
    return lambda bench: bench.script(code, **spec)


def builtin(hparams: Mapping[str, Any] | None = None, **spec: Any) -> Callable[[Any], Any]:
    texts = [{"name": k, "value": str(v)} for k, v in (hparams or {}).items()]
    return lambda bench: bench.run({"builtin": {"model": "resnet8"}}, hparams=texts, **spec)


CASES: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "a script that ends at once": (
        script("import sys\nsys.exit(3)"),
        "UserError",
        "rank 0 exited with code 3 and said nothing on stderr",
    ),
    "a script that says why": (
        script("import sys\nsys.exit('no licence file; set LICENCE')"),
        "UserError",
        "no licence file; set LICENCE",
    ),
    "arguments that a script does not know": (
        script(
            "import argparse\nargparse.ArgumentParser(prog='train.py').parse_args()",
            args=("--lr",),
        ),
        "UserError",
        "train.py: error: unrecognized arguments: --lr",
    ),
    "a module that is not installed": (
        script("import no_such_module"),
        "UserError",
        "ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "a script with a syntax error": (
        script("def f(:\n    pass"),
        "UserError",
        "SyntaxError: invalid syntax",
    ),
    "a script that is not there": (
        script("", entry="other.py"),
        "InvalidSpec",
        "script 'other.py' is not in the code bundle",
    ),
    "a script outside of its bundle": (
        script("", entry="../../identity.json"),
        "InvalidSpec",
        "script '../../identity.json' is not in the code bundle",
    ),
    "a function's module that is not there": (
        script("", entry="other:main"),
        "InvalidSpec",
        "entry 'other:main' is not in the code bundle: No module named 'other'",
    ),
    "a function that is not there": (
        script("", entry="train:main"),
        "InvalidSpec",
        "entry 'train:main' is no function of the code bundle; expected module:function",
    ),
    "a module that a function's module misses": (
        script("import no_such_module", entry="train:main"),
        "UserError",
        "ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "a segmentation fault": (
        script("import ctypes\nctypes.string_at(0)"),
        "Crashed",
        "rank 0 was ended by SIGSEGV (Segmentation fault)",
    ),
    "no number": (
        functions(input_fn=broken_input_fn),
        "Diverged",
        "the loss is nan at step 1; lower learning_rate, or set clip_norm",
    ),
    "a model_fn without a model": (
        functions(model_fn=no_model_fn),
        "InvalidSpec",
        "model_fn returned dict; expected a torch.nn.Module",
    ),
    "a model_fn that fails": (
        functions(model_fn=raising_model_fn),
        "UserError",
        "KeyError: 'depth'",
    ),
    "a loss_fn that is no mean": (
        functions(loss_fn=vector_loss_fn),
        "InvalidSpec",
        "loss_fn returned Tensor of shape (32,); expected a scalar tensor",
    ),
    "no data at all": (
        functions(input_fn=None),
        "InvalidSpec",
        "the experiment names no dataset and gives no input_fn; set spec.dataset, or give one",
    ),
    "a batch of more than there is": (
        functions({"batch_size": 100}),
        "InvalidSpec",
        "hparam batch_size is 100 on 1 workers, 100 samples a step, but there are only 64 training "
        "samples; use batch_size 64 or less",
    ),
    "an hparam that is unknown": (
        builtin({"learning_rat": 0.1}),
        "InvalidSpec",
        "hparam 'learning_rat' is unknown; did you mean 'learning_rate'?",
    ),
    "an hparam that is no number": (
        functions({"batch_size": "many"}),
        "InvalidSpec",
        "hparam batch_size is 'many'; expected a whole number",
    ),
    "a dataset that is not there": (
        builtin(dataset=DATASET),
        "NotFound",
        "There is no dataset 'nothing-here'",
    ),
}


@pytest.mark.parametrize(("make", "reason", "line"), CASES.values(), ids=CASES)
def test_each_ends_with_its_reason_and_what_to_do(
    bench: Any, make: Callable[[Any], Any], reason: str, line: str
) -> None:
    run = make(bench)
    [agent] = run.start()
    code = agent.wait()
    record = agent.exit_record
    assert (record["reason"], record["exit_code"]) == (reason, code), agent.said
    assert record["message"].startswith(line)
    if reason == "NotFound":
        # The agent could not begin; no rank ever ran.
        return
    facts = run.facts
    assert facts.failure is not None
    assert (facts.failure.reason, facts.failure.first_error) == (reason, record["message"])
    if reason != "Crashed":
        # Trying again would be in vain, so nothing was tried again.
        assert (facts.state, facts.generation, code) == ("failed", 1, 1)


def test_a_full_disk_ends_the_run_and_says_how_to_go_on(bench: Any) -> None:
    """A limit on the size of files stands for the disk: the model no longer fits."""

    def model(hparams: Mapping[str, Any]) -> Any:
        import resource

        from torch import nn

        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        return nn.Sequential(nn.Linear(4, 8000), nn.Linear(8000, 2))

    model.__module__ = "__main__"
    run = functions({"iterations": 30}, model_fn=model)(bench)
    [agent] = run.start()
    assert agent.wait() == 1
    record = agent.exit_record
    assert record["reason"] == "DiskFull"
    assert record["message"] == (
        "the checkpoint of step 10 does not fit on the disk of the worker: File too large; "
        "make room, or save less often (checkpoint.everySteps)"
    )
    assert run.facts.failure.reason == "DiskFull"
