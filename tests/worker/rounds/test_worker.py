"""The shell of a round against a server that dies, refuses and fences."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import server as http_server
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quintile.adapters import shards
from quintile.core import tasks
from quintile.testing import objects
from quintile_trainer import failures, layout, rounds, worker_env
from quintile_trainer.rounds import server

PREFIX = "datasets/d/v1"


@dataclass
class Platform:
    """Objects by key, posts by route; ``busy`` calls are answered 503 first."""

    store: objects.FakeObjectStore = field(default_factory=objects.FakeObjectStore)
    access: dict[str, Any] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    busy: int = 0
    refusal: tuple[int, dict[str, Any]] | None = None
    url: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        self.calls.append(f"{method} {path}")
        if self.busy > 0:
            self.busy -= 1
            return 503, b"restarting"
        if path.startswith("/bytes/"):
            return self._bytes(method, path.removeprefix("/bytes/"), body)
        if self.refusal is not None:
            return self.refusal[0], json.dumps(self.refusal[1]).encode()
        if path.endswith("/open"):
            assert json.loads(body) == {"attempt": 3}
            return 200, json.dumps(self.access).encode()
        self.results.append(json.loads(body))
        return 200, b'{"number": 0, "repeated": false}'

    def _bytes(self, method: str, key: str, body: bytes) -> tuple[int, bytes]:
        if method == "PUT":
            self.store.put(key, body)
            return 200, b""
        return 200, self.store.get(key)

    def at(self, key: str) -> str:
        return f"{self.url}/bytes/{key}"


@pytest.fixture
def platform() -> Iterator[Platform]:
    found = Platform()

    class Handler(http_server.BaseHTTPRequestHandler):
        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if "/internal/" in self.path:
                assert self.headers["Authorization"] == "Bearer trial-token"
            status, data = found.answer(self.command, self.path, self.rfile.read(size))
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    listener = http_server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    with contextlib.suppress(OSError):
        listener.shutdown()
    listener.server_close()
    thread.join()


def images(count: int) -> list[tuple[str, bytes, int, int, str]]:
    draw = np.random.default_rng(0)
    found = []
    for row in range(count):
        pixels = draw.integers(0, 60, (8, 8)).astype(np.uint8)
        pixels[:, 4 * (row % 2) : 4 * (row % 2) + 4] += 150
        stored = io.BytesIO()
        shape = pixels if row % 5 else np.stack([pixels] * 3, axis=-1)
        Image.fromarray(shape).save(stored, "PNG")
        found.append((f"{row}.png", stored.getvalue(), 8, 8, "PNG"))
    return found


def dataset(platform: Platform, count: int = 60) -> tuple[dict[str, Any], list[str]]:
    written = shards.write_version(platform.store, PREFIX, images(count), shard_bytes=6_000)
    assert len(written.shards) > 1
    access = {
        "name": "d",
        "version": 1,
        "manifest_url": platform.at(written.manifest_key),
        "manifest_sha256": written.manifest_sha256,
        "shards": [
            {"index": at, "size": one.size, "sha256": one.sha256, "url": platform.at(one.key)}
            for at, one in enumerate(written.shards)
        ],
    }
    return access, [item.item_id for item in written.items]


def prepare(platform: Platform, step: str, number: int, **changes: Any) -> None:
    """Store the manifest of a round and the access to it."""
    values: dict[str, Any] = {
        "job_uid": "uid-1",
        "number": number,
        "step": step,
        "dataset": "d",
        "version": 1,
        "pool_sha256": "",
        "features_key": "",
        "features_sha256": "",
        "labels": [],
        "random": [],
        "exclude": [],
        "classes": ["left", "right"],
        "schema_version": 1,
        "engine_version": "1",
        "seed": 0,
        "batch": 5,
        "strategy": "auto",
        "target": {"error": "0.2"},
    }
    manifest = tasks.RoundManifest.model_validate({**values, **changes})
    data = manifest.model_dump_json().encode()
    platform.store.put(f"m{number}", data)
    outputs = ("features", "predictions", "scores")
    platform.access = tasks.RoundAccess(
        manifest_url=platform.at(f"m{number}"),
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        features_url=platform.at(manifest.features_key) if manifest.features_key else "",
        uploads={
            name: tasks.RoundUpload(key=f"r{number}/{name}", url=platform.at(f"r{number}/{name}"))
            for name in outputs
        },
    ).model_dump(mode="json")


def rank(
    platform: Platform, folder: Path, step: str, number: int, access: dict[str, Any] | None = None
) -> worker_env.WorkerEnv:
    """A rank whose program is a round, as the agent makes it."""
    program = {
        "estimator": {
            "labelingRound": {"job": "j", "jobUid": "uid-1", "number": number, "step": step}
        }
    }
    return worker_env.WorkerEnv(
        rank=0,
        world_size=1,
        local_rank=0,
        local_world_size=1,
        master_host="127.0.0.1",
        master_port=0,
        mode="single",
        trial_uid="t",
        attempt=3,
        generation=1,
        workers=1,
        ranks_on_host=1,
        program=program,
        access=access,
        state=layout.StateFolder(folder / "state"),
        resume_dir=None,
        cache_dir=folder / "cache",
        api_url=platform.url,
        token="trial-token",
    )


def load(platform: Platform, key: str, sha256: str) -> dict[str, np.ndarray]:
    data = platform.store.get(key)
    assert hashlib.sha256(data).hexdigest() == sha256
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def embedded(platform: Platform, folder: Path) -> tuple[tasks.RoundResult, list[str]]:
    access, ids = dataset(platform)
    prepare(platform, "embed", 0, exclude=sorted(ids[:4]))
    rounds.run(rank(platform, folder, "embed", 0, access))
    return tasks.RoundResult.model_validate(platform.results[-1]), ids


def test_all_steps_hand_in_what_they_made(platform: Platform, tmp_path: Path) -> None:
    result, ids = embedded(platform, tmp_path)
    assert (result.attempt, result.number, result.step) == (3, 0, "embed")
    assert len(result.order) == len(result.reasons) == 25
    assert not set(result.order) & set(ids[:4])
    features = load(platform, result.features_key, result.features_sha256)
    assert features["item_ids"].tolist() == sorted(ids)
    assert features["features"].dtype == np.float32
    assert result.report["seconds"] > 0
    opened = "POST /api/v1/internal/labeling/uid-1/rounds/0/open"
    assert (platform.calls[0], platform.calls[-1]) == (opened, opened.replace("/open", "/result"))

    truth = {}
    for name, data, *_ in images(60):
        item_id = shards.item_id(name, hashlib.sha256(data).hexdigest())
        truth[item_id] = int(name.split(".")[0]) % 2
    labelled = sorted([*ids[:30], *result.order[:5]])
    learned = {
        "features_key": result.features_key,
        "features_sha256": result.features_sha256,
        "labels": [(item_id, "a", truth[item_id]) for item_id in sorted(set(labelled))],
        "random": [(item_id, truth[item_id]) for item_id in ids[:30]],
        "random_size": 30,
    }
    prepare(platform, "learn", 1, **learned, exclude=sorted(ids[:30]))
    rounds.run(rank(platform, tmp_path, "learn", 1))
    second = tasks.RoundResult.model_validate(platform.results[-1])
    found = load(platform, second.predictions_key, second.predictions_sha256)
    answers = [truth[item_id] for item_id in found["item_ids"].tolist()]
    assert (found["predicted"] == answers).mean() > 0.95
    assert set(second.order) <= set(ids) - set(labelled)

    prepare(platform, "finalise", 2, **learned)
    rounds.run(rank(platform, tmp_path, "finalise", 2))
    last = tasks.RoundResult.model_validate(platform.results[-1])
    assert last.certificate["outcome"] == "Certified"
    assert len(last.accepted) == last.certificate["accepted"]
    assert set(load(platform, last.scores_key, last.scores_sha256)) >= {"scores", "random_wrong"}


def test_a_server_that_restarts_is_waited_for(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_PAUSE_S", 0.001)
    platform.busy = 3
    link = server.Server(platform.url, "trial-token")
    link.put(platform.at("k"), b"bytes")
    assert platform.calls == ["PUT /bytes/k"] * 4
    assert platform.store.get("k") == b"bytes"
    platform.busy = 2
    assert link.post("/internal/x/result", {}) == {"number": 0, "repeated": False}
    assert len(platform.results) == 1


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((409, {"detail": "attempt 4 runs"}), "another attempt took over .attempt 4 runs"),
        ((404, {"detail": "no such round"}), "refused with 404: no such round"),
        ((401, {}), "refused with 401"),
    ],
)
def test_a_refusal_ends_the_rank(
    platform: Platform, tmp_path: Path, refusal: tuple[int, dict[str, Any]], message: str
) -> None:
    platform.refusal = refusal
    with pytest.raises(failures.Broken, match=message):
        rounds.run(rank(platform, tmp_path, "learn", 1))
    assert len(platform.calls) == 1


def test_a_server_that_stays_away_ends_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_PAUSE_S", 0.001)
    nobody = server.Server("http://127.0.0.1:1", "t", away_limit_s=0.01)
    with pytest.raises(failures.Broken, match="was not answered.*gave up after"):
        nobody.post("/x", {})


def test_a_manifest_of_another_round_is_refused(platform: Platform, tmp_path: Path) -> None:
    prepare(platform, "learn", 7)
    with pytest.raises(failures.Broken, match=r"the manifest is of round 7 \(learn\)"):
        rounds.run(rank(platform, tmp_path, "learn", 1))


def test_an_input_that_cannot_be_computed_is_told(platform: Platform, tmp_path: Path) -> None:
    result, _ = embedded(platform, tmp_path)
    prepare(
        platform,
        "learn",
        1,
        features_key=result.features_key,
        features_sha256=result.features_sha256,
        labels=[("f" * 16, "a", 0)],
    )
    with pytest.raises(failures.BadInput, match="round 1 .* cannot be computed: The pool has no"):
        rounds.run(rank(platform, tmp_path, "learn", 1))


def test_an_unreadable_image_is_named(platform: Platform, tmp_path: Path) -> None:
    broken = images(20)
    broken[7] = ("7.png", b"\x89PNG but no more", 8, 8, "PNG")
    written = shards.write_version(platform.store, PREFIX, broken)
    access = {
        "manifest_url": platform.at(written.manifest_key),
        "manifest_sha256": written.manifest_sha256,
        "shards": [
            {
                "index": 0,
                "sha256": written.shards[0].sha256,
                "url": platform.at(written.shards[0].key),
            }
        ],
    }
    prepare(platform, "embed", 0)
    with pytest.raises(failures.BadInput, match=r"image '7.png' cannot be decoded"):
        rounds.run(rank(platform, tmp_path, "embed", 0, access))
