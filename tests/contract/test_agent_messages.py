"""The agent's JSON, made with the standard library, against the models that the API reads."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pydantic
import pytest

from quintile.core import messages, meta
from quintile_api.coordinator import routes
from quintile_trainer.agent import wire

ENVELOPE = wire.Envelope(
    attempt=2, generation=3, boot_id="boot-0123456789", seq=7, role="worker", index=1
)
PLACE = wire.Place(
    members={"worker": 2, "ps": 1}, max_restarts=4, procs=2, host="10.0.0.7", port=4242
)
RANK = wire.RankView(rank=3, pid=99, state="running", step=5, total_steps=10)
END = wire.RankEnd(
    rank=3, exit_code=137, signal=9, reason="OutOfMemory" * 9, first_error="e" * 5000
)
POINT = {"step": 5, "time": 1.5, "values": {"loss": 0.25, "lr": float("nan")}}
LINE = {"time": 1.5, "line": "hello", "stream": "stderr"}
MARKER = {"time": 1.5, "line": "3 lines dropped", "stream": "agent", "dropped": 3}
MANIFEST = {
    "format": 1,
    "trial_uid": "uid",
    "attempt": 2,
    "generation": 3,
    "step": 5,
    "epoch": 0,
    "cursor": 320,
    "world_size": 2,
    "dataset_digest": "d" * 64,
    "code_sha256": "",
    "metrics": {"loss": 0.5},
    "files": [{"path": "model.safetensors", "size": 5, "sha256": "a" * 64}],
}

SENT: dict[str, tuple[wire.Json, type[pydantic.BaseModel]]] = {
    "join": (wire.join(ENVELOPE, PLACE), messages.Join),
    "heartbeat": (wire.heartbeat(ENVELOPE, [RANK]), messages.Heartbeat),
    "exit": (wire.rank_exit(ENVELOPE, END), messages.RankExit),
    "metrics": (wire.metrics(ENVELOPE, 3, [POINT, POINT], 11), messages.MetricBatch),
    "logs": (wire.logs(ENVELOPE, 3, [LINE, MARKER], 11), messages.LogBatch),
    "urls": (wire.url_request(ENVELOPE, step=5, files=["a"]), messages.UrlRequest),
    "commit": (
        wire.commit(ENVELOPE, prefix="ckpt/x", manifest=MANIFEST),
        messages.CheckpointCommit,
    ),
}


@pytest.mark.parametrize(("body", "model"), SENT.values(), ids=SENT)
def test_every_message_is_one_that_the_api_reads(
    body: wire.Json, model: type[pydantic.BaseModel]
) -> None:
    read = model.model_validate_json(json.dumps(body))
    # Nothing is left to a default: what the agent knows it says.
    assert read.model_fields_set == set(model.model_fields)
    assert (read.attempt, read.generation, read.seq) == (2, 3, 7)  # type: ignore[attr-defined]


def test_numbers_of_records_rise_from_the_first() -> None:
    for kind, key in (("metrics", "points"), ("logs", "lines")):
        assert [entry["seq"] for entry in SENT[kind][0][key]] == [11, 12]


def test_texts_are_cut_to_what_the_api_takes() -> None:
    read = messages.RankExit.model_validate(SENT["exit"][0])
    assert (len(read.reason), len(read.first_error)) == (64, 1024)


def test_artifacts_are_asked_for_with_a_generation() -> None:
    body = wire.artifact_request(ENVELOPE, ["report.json"])
    read = routes.ArtifactUrls.model_validate(body)
    assert (read.generation, read.files) == (3, ["report.json"])


def test_every_envelope_message_of_the_api_is_covered() -> None:
    """A message that is added to the models must be added to the agent, and here."""
    kinds = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, messages.Envelope)
    }
    assert kinds - {messages.Envelope} == {model for _, model in SENT.values()}
    assert issubclass(messages.Envelope, meta.Message)


def imported(module: str) -> set[str]:
    """Return the top-level modules that importing a module loads, in a fresh interpreter."""
    code = (
        f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(answer.stdout.split())


STANDARD = sys.stdlib_module_names | {"__main__", "quintile_trainer"}
LIGHT = (
    "quintile_trainer.agent.__main__",
    "quintile_trainer.agent.replica",
    "quintile_trainer.agent.supervisor",
    "quintile_trainer.main",
    "quintile_trainer.script",
    "quintile_trainer.context",
)


@pytest.mark.parametrize("module", LIGHT)
def test_agent_and_rank_start_with_the_standard_library_alone(module: str) -> None:
    loaded = imported(module)
    foreign = {name for name in loaded - STANDARD if not name.startswith(("_", "sitecustomize"))}
    assert not foreign


def test_a_labeling_round_never_loads_torch() -> None:
    pytest.importorskip("quintile_trainer.rounds")
    loaded: set[Any] = imported("quintile_trainer.main, quintile_trainer.rounds")
    assert not loaded & {"torch", "tensorboard", "safetensors"}
