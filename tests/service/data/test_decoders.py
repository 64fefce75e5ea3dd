"""The decoding process: limited, replaced when it dies or hangs, nothing of ours inside."""

from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from quintile_api.data import decoder_process, decoders


@pytest.fixture
def decoder() -> Iterator[decoders.Decoder]:
    made = decoders.Decoder()
    yield made
    made.close()


def pid_of(decoder: decoders.Decoder) -> int:
    assert decoder.pid is not None
    return decoder.pid


def test_a_decoder_that_dies_is_replaced(decoder: decoders.Decoder, make: Any) -> None:
    assert decoder.verify(make.png()) == decoders.Picture("PNG", 8, 8)
    first = pid_of(decoder)
    os.kill(first, signal.SIGKILL)
    lost = decoder.verify(make.png())
    assert isinstance(lost, decoders.Refusal)
    assert lost.reason == "Broken"
    assert decoder.verify(make.png()) == decoders.Picture("PNG", 8, 8)
    assert pid_of(decoder) != first


def test_a_decoder_that_hangs_is_ended(make: Any) -> None:
    decoder = decoders.Decoder(timeout_s=0.5)
    try:
        # On a busy machine the start alone may take longer than this decoder waits.
        answers = (decoder.verify(make.png()) for _ in range(50))
        assert any(isinstance(answer, decoders.Picture) for answer in answers)
        stopped = decoder.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        late = decoder.verify(make.png())
        assert isinstance(late, decoders.Refusal)
        assert late.reason == "TooSlow"
        assert decoder.pid is None
    finally:
        decoder.close()


@pytest.mark.skipif(not pathlib.Path("/proc/self/limits").exists(), reason="needs Linux's /proc")
def test_the_process_holds_no_environment_and_few_rights(
    decoder: decoders.Decoder, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUINTILE_TOKEN", "secret")
    decoder.verify(make.png())
    process = pathlib.Path(f"/proc/{pid_of(decoder)}")
    assert b"secret" not in (process / "environ").read_bytes()
    limits = (process / "limits").read_text()
    assert f"{decoder_process.MEMORY_LIMIT_BYTES}" in limits
    assert "Max file size             0" in limits
    assert (process / "cwd").readlink() == pathlib.Path("/")
    assert b"torch" not in (process / "maps").read_bytes()


def test_a_pool_lends_each_decoder_to_one(make: Any) -> None:
    pool = decoders.DecoderPool(2)
    try:
        with pool.borrow() as first, pool.borrow() as second:
            assert first is not second
            assert first.verify(make.png()) == second.verify(make.png())
    finally:
        pool.close()
