"""Headers, greetings, and frames that arrive in pieces of any size."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile_trainer.ps import endpoint, frames, handshake, job, layout, optimizers, settings

HEADERS = st.builds(
    frames.Header,
    kind=st.integers(0, 255),
    flags=st.integers(0, 255),
    worker=st.integers(0, 2**16 - 1),
    generation=st.integers(0, 2**32 - 1),
    chunk=st.integers(0, 2**32 - 1),
    length=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**64 - 1),
    version=st.integers(0, 2**64 - 1),
    rate=st.floats(allow_nan=False),
    lease=st.integers(0, 2**64 - 1),
)


@given(HEADERS)
def test_headers_come_back(header: frames.Header) -> None:
    data = header.pack()
    assert len(data) == frames.HEADER_BYTES
    assert frames.unpack(data) == header


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.lists(st.integers(1, 80)))
def test_frames_arrive_whole_whatever_the_pieces(payloads: list[bytes], cuts: list[int]) -> None:
    near, far = connected()
    stream = b"".join(
        frames.Header(frames.PUSH, step=number, length=len(payload)).pack() + payload
        for number, payload in enumerate(payloads)
    )
    try:
        end = endpoint.Endpoint(near)
        found = []
        while stream:
            size = cuts.pop() if cuts else len(stream)
            far.sendall(stream[:size])
            stream = stream[size:]
            while (frame := end.receive(lambda h: memoryview(bytearray(h.length)))) is not None:
                found.append((frame[0].step, bytes(frame[1] or b"")))
        assert found == list(enumerate(payloads))
    finally:
        near.close()
        far.close()


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        return listener.accept()[0], far


def test_what_does_not_fit_the_socket_waits_and_live_memory_is_copied() -> None:
    near, far = connected()
    end = endpoint.Endpoint(near)
    payload = bytearray(b"a" * (32 << 20))
    head = frames.Header(frames.VALUE, length=len(payload)).pack()
    end.send_live(head, payload)
    assert end.is_sending
    payload[:] = b"b" * len(payload)
    received = bytearray()
    far.setblocking(False)
    while len(received) < len(head) + len(payload):
        end.flush()
        try:
            received += far.recv(1 << 20)
        except BlockingIOError:
            continue
    assert received[len(head) :] == b"a" * len(payload)
    assert not end.is_sending
    far.close()
    with pytest.raises(endpoint.Closed):
        while True:
            end.receive(lambda header: memoryview(bytearray(header.length)))
    end.close()


def test_proofs_are_of_one_side_one_connection_and_one_secret() -> None:
    greeting = handshake.Greeting("worker", 1, 2, handshake.challenge())
    nonce = handshake.challenge()
    right = handshake.proof(b"token", "caller", greeting, nonce)
    assert handshake.matches(right, handshake.proof(b"token", "caller", greeting, nonce))
    others = [
        handshake.proof(b"other", "caller", greeting, nonce),
        handshake.proof(b"token", "server", greeting, nonce),
        handshake.proof(b"token", "caller", greeting, handshake.challenge()),
        handshake.proof(
            b"token", "caller", handshake.Greeting("worker", 2, 2, greeting.nonce), nonce
        ),
    ]
    assert not [other for other in others if handshake.matches(other, right)]
    assert not handshake.matches(None, right)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        {"role": "king", "number": 0, "generation": 1, "nonce": "0" * 32},
        {"role": "worker", "number": "0", "generation": 1, "nonce": "0" * 32},
        {"role": "worker", "number": 0, "generation": 1, "nonce": "short"},
        {"role": "worker", "number": 0, "generation": 1, "nonce": "0" * 32, "more": 1},
    ],
)
def test_greetings_that_are_none_are_refused(document: object) -> None:
    with pytest.raises(ValueError, match="greeting"):
        handshake.parse(document)


def test_jobs_come_back_from_json_and_agree_wherever_they_begin() -> None:
    plan = layout.plan([layout.Parameter("w", 10, "float32", 1)], 2)
    rule = optimizers.Rule("adamw", decays=(0.1, 0.0), betas=(0.8, 0.9))
    consistency = settings.Consistency("ssp", 3)
    begun = job.Job(plan, rule, consistency, 7, job.Positions(10, 5, ((0, 3),)))
    assert job.parse(begun.document()) == begun
    assert job.Job(plan, rule, consistency).digest == begun.digest
    assert job.Job(plan, rule, settings.Consistency("ssp", 4)).digest != begun.digest
