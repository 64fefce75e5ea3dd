"""Lost, late, old and foreign processes: nothing hangs, and the message names who it was."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from quintile_trainer import failures
from quintile_trainer.ps import client, frames, optimizers, server, settings

PATIENT = settings.Limits(meeting_s=30, answer_s=30, reconnect_s=30, cut_s=30, slice_s=0.02)
SIZE = 300_000


def joined(cluster: Any, rank: int, *, secret: bytes | None = None, **team: Any) -> client.Client:
    given = settings.Team(**{**vars(cluster.team), **team})
    return client.join(
        given,
        secret or cluster.secret,
        worker=rank,
        parameters={"w": torch.zeros(SIZE)},
        work=client.Work(optimizers.Rule("sgd", momentum=0.9), chunk_bytes=1 << 18),
    )


def forever(cluster: Any, rank: int) -> None:
    server = joined(cluster, rank)
    while True:
        server.exchange(server.clock, {"w": torch.ones(SIZE)}, rate=0.1)


def pause_at_two(cluster: Any, rank: int) -> None:
    server = joined(cluster, rank)
    while server.clock < 2 or rank != 1:
        server.exchange(server.clock, {"w": torch.ones(SIZE)}, rate=0.1)
    cluster.tell("paused")
    signal.pause()


def test_a_killed_worker_is_named_by_servers_and_other_workers(
    cluster: Callable[..., Any],
) -> None:
    running = cluster(servers=2, workers=3)
    workers = running.work(pause_at_two)
    # Worker 1 stands still at step 2; the others wait for it until it is killed.
    assert workers[1].told() == "paused"
    workers[1].signal(signal.SIGKILL)
    for other in (workers[0], workers[2], *running.servers):
        assert "PeerLost: worker 1 lost its connection" in other.error()


def test_a_silent_worker_is_named_with_the_step_it_owes(cluster: Callable[..., Any]) -> None:
    limits = settings.Limits(meeting_s=30, answer_s=1.0, reconnect_s=5, slice_s=0.02)
    running = cluster(servers=1, workers=3, limits=limits)
    workers = running.work(pause_at_two)
    for other in (workers[0], workers[2], running.servers[0]):
        assert "PeerLost: worker 1 did not push step 2 within 1 s" in other.error()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_server_is_named(cluster: Callable[..., Any], killed: int) -> None:
    running = cluster(servers=3, workers=2)
    workers = running.work(tell_and_go_on)
    for worker in workers:
        assert worker.told() == ("at", 1)
    running.servers[killed].signal(signal.SIGKILL)
    others = [entry for number, entry in enumerate(running.servers) if number != killed]
    for other in (*workers, *others):
        assert f"PeerLost: parameter server {killed} at " in other.error()


def tell_and_go_on(cluster: Any, rank: int) -> None:
    server = joined(cluster, rank)
    server.exchange(0, {"w": torch.ones(SIZE)}, rate=0.1)
    cluster.tell(("at", server.clock))
    while True:
        server.exchange(server.clock, {"w": torch.ones(SIZE)}, rate=0.1)


def test_who_never_comes_is_named(cluster: Callable[..., Any]) -> None:
    limits = settings.Limits(meeting_s=0.5, handshake_s=5, slice_s=0.02)
    running = cluster(servers=1, workers=3, limits=limits)
    running.start(forever, 0)
    assert "waited 0.5 s for worker 1, worker 2" in running.servers[0].error()


def test_another_generation_is_fenced(cluster: Callable[..., Any]) -> None:
    running = cluster(servers=1, workers=1, generation=4)
    late = running.start(lambda given: joined(given, 0, generation=3))
    assert "Fenced: parameter server 0 does not take this process any more" in late.error()
    assert running.start(finish, 0).result() == 1
    running.servers[0].result()


def finish(cluster: Any, rank: int) -> int:
    server = joined(cluster, rank)
    server.exchange(0, {"w": torch.ones(SIZE)}, rate=0.1)
    server.close()
    return server.clock


def test_another_secret_is_refused_and_never_sent(
    cluster: Callable[..., Any], tap: Callable[..., Any]
) -> None:
    running = cluster(servers=1, workers=1)
    with tap(running.team.port) as (port, seen):
        thief = running.start(lambda given: joined(given, 0, secret=b"guess", port=port))
        assert "Refused: parameter server 0 does not know the trial's token" in thief.error()
        assert running.start(lambda given: through(given, port)).result() == 1
    everything = b"".join(seen)
    assert running.secret not in everything
    assert b"nonce" in everything


def through(cluster: Any, port: int) -> int:
    server = joined(cluster, 0, port=port)
    server.exchange(0, {"w": torch.ones(SIZE)}, rate=0.1)
    server.close()
    return server.clock


def test_another_model_is_refused(cluster: Callable[..., Any]) -> None:
    def work(given: Any, rank: int) -> Any:
        parameters = {"w": torch.zeros(8 + rank)}
        return client.join(
            given.team,
            given.secret,
            worker=rank,
            parameters=parameters,
            work=client.Work(optimizers.Rule("sgd")),
        ).abandon()

    workers = cluster(servers=1, workers=2).work(work)
    assert "worker 1 has another model, optimizer or ordering than worker 0" in workers[1].error()


def test_noise_costs_its_sender_the_connection_only(cluster: Callable[..., Any]) -> None:
    running = cluster(servers=1, workers=1)
    address = (running.team.host, running.team.port)
    huge = frames.Header(frames.HELLO, length=1 << 31).pack()
    early = frames.Header(frames.PUSH, chunk=0, length=4, generation=1).pack() + b"1234"
    wrong = frames.text(frames.HELLO, {"role": "king"})
    for noise in (huge, early, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n" * 4, b"".join(wrong)):
        with socket.create_connection(address, timeout=30) as sock:
            sock.sendall(noise)
            # The server answers with a reason or nothing, and closes.
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
    assert running.start(finish, 0).result() == 1


def test_a_lost_connection_is_made_anew_and_the_push_counts_once(
    cluster: Callable[..., Any], tap: Callable[..., Any]
) -> None:
    running = cluster(servers=1, workers=2, limits=PATIENT)
    # The first connections break in the middle of pushes, later ones hold.
    with tap(running.team.port, breaks=(700_000, 2_000_000, 900_000)) as (port, _seen):
        workers = running.work(count_through, port)
        found = [worker.result() for worker in workers]
    value = exact(5)
    assert [entry["value"] for entry in found] == [value, value]
    assert sum(entry["reconnections"] for entry in found) >= 1
    assert found[0]["updates"] == 5 * found[0]["chunks"]
    assert running.servers[0].result()["duplicates"] >= 1


def exact(steps: int) -> float:
    """Serial: the mean gradient of ranks 0 and 1 is 1.5, momentum 0.9."""
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    for _ in range(steps):
        parameter.grad = torch.full((1,), 1.5)
        optimizer.step()
    return float(parameter.detach())


def count_through(cluster: Any, rank: int, port: int) -> dict[str, Any]:
    server = joined(cluster, rank, port=port)
    gradient = {"w": torch.full((SIZE,), rank + 1.0)}
    for step in range(5):
        server.exchange(step, gradient, rate=0.1)
    server.barrier()
    updates = server.statistics().updates
    server.barrier()
    (value,) = server.values().unique().tolist()
    server.close()
    return {
        "value": value,
        "reconnections": server.reconnections,
        "updates": updates,
        "chunks": len(server.plan.chunks),
    }


def test_the_same_push_sent_twice_counts_once(cluster: Callable[..., Any]) -> None:
    def repeat(given: Any, rank: int) -> Any:
        server = joined(given, rank)
        gradient = {"w": torch.ones(SIZE)}
        for step in range(3):
            server.push(step, gradient, rate=1.0)
            server.push(step, gradient, rate=1.0)
        server.pull()
        statistics = server.statistics()
        (value,) = server.values().unique().tolist()
        server.close()
        return value, statistics.duplicates, len(server.plan.chunks)

    value, duplicates, chunks = cluster(servers=2, workers=1).work(repeat)[0].result()
    assert value == pytest.approx(-(1 + 1.9 + 2.71))
    assert duplicates == 3 * chunks


def test_a_server_that_is_none_is_refused() -> None:
    """A program that took the port and does not know the token learns nothing from us."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pretend() -> None:
        near, _ = listener.accept()
        with near:
            near.recv(1 << 16)
            near.sendall(b"".join(frames.text(frames.CHALLENGE, {"nonce": "0" * 32, "proof": ""})))
            near.recv(1 << 16)

    pretender = threading.Thread(target=pretend)
    pretender.start()
    team = settings.Team(1, 1, 1, "127.0.0.1", listener.getsockname()[1])
    with pytest.raises(Exception, match="does not know the trial's token"):
        client.join(
            team,
            b"token",
            worker=0,
            parameters={"w": torch.zeros(1)},
            work=client.Work(optimizers.Rule("sgd")),
        )
    pretender.join()
    listener.close()


def test_a_connection_that_says_nothing_is_closed(cluster: Callable[..., Any]) -> None:
    limits = settings.Limits(meeting_s=30, handshake_s=0.2, slice_s=0.02)
    running = cluster(servers=1, workers=1, limits=limits)
    with socket.create_connection((running.team.host, running.team.port), timeout=30) as sock:
        assert sock.recv(1) == b""


def test_a_cut_whose_server_dies_says_so(cluster: Callable[..., Any]) -> None:
    def wait_for_a_cut(given: Any, rank: int) -> None:
        server = client.join(
            given.team,
            given.secret,
            worker=rank,
            parameters={"w": torch.zeros(SIZE)},
            work=client.Work(optimizers.Rule("sgd"), consistency=settings.Consistency("ssp", 1)),
        )
        # Nobody pushes, so that the cut's clock is never reached.
        cut = server.checkpoint_cut()
        given.tell("named")
        cut.contents()

    running = cluster(servers=2, workers=1)
    worker = running.work(wait_for_a_cut)[0]
    assert worker.told() == "named"
    running.servers[1].signal(signal.SIGKILL)
    assert "PeerLost: parameter server 1 at" in worker.error()


def test_a_cut_that_is_not_reached_names_who_is_late(cluster: Callable[..., Any]) -> None:
    def wait_for_a_cut(given: Any, rank: int) -> None:
        server = client.join(
            given.team,
            given.secret,
            worker=rank,
            parameters={"w": torch.zeros(SIZE)},
            work=client.Work(optimizers.Rule("sgd"), consistency=settings.Consistency("ssp", 1)),
        )
        server.barrier()
        if rank == 0:
            cut = server.checkpoint_cut()
            server.exchange(0, {}, rate=1.0)
            cut.contents()
        signal.pause()

    limits = settings.Limits(meeting_s=30, cut_s=0.3, reconnect_s=20, slice_s=0.02)
    running = cluster(servers=2, workers=2, limits=limits)
    worker = running.work(wait_for_a_cut)[0]
    assert "Refused: " in (text := worker.error())
    assert "the cut was not reached within 0.3 s; it waits for worker 1" in text


def test_a_server_ends_when_it_is_told_to() -> None:
    team = settings.Team(1, 1, 1, "127.0.0.1", 0)
    place = server.Place(team, 0, "127.0.0.1")
    assert server.run(place, b"token", stop=lambda: True)["updates"] == 0


def test_a_taken_port_is_a_lost_peer_not_a_crash() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        team = settings.Team(1, 1, 1, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(failures.PeerLost, match="cannot listen on 127.0.0.1"):
            server.run(server.Place(team, 0, "127.0.0.1"), b"token")


def test_the_program_serves_and_prints_its_counters() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "quintile_trainer.ps"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None and program.stdout is not None
    team = {"servers": 1, "workers": 1, "generation": 2, "host": "127.0.0.1", "port": 0}
    told = {"team": team, "server": 0, "host": "127.0.0.1", "secret": "token"}
    with program:
        program.stdin.write(json.dumps(told) + "\n")
        program.stdin.flush()
        port = json.loads(program.stdout.readline())["port"]
        link = client.join(
            settings.Team(1, 1, 2, "127.0.0.1", port),
            b"token",
            worker=0,
            parameters={"w": torch.zeros(3)},
            work=client.Work(optimizers.Rule("sgd")),
        )
        link.exchange(0, {"w": torch.ones(3)}, rate=0.5)
        assert link.values().tolist() == [-0.5] * 3
        link.close()
        assert json.loads(program.stdout.readline())["updates"] == 1
    assert program.returncode == 0
