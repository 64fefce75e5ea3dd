"""Names that resolve later, the interface of an address, and the record for the kubelet."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time
from typing import Any

import pytest

from quintile_trainer.agent import identity, launching, mpi_command, peers

UNKNOWN = "worker-0.nowhere.invalid"


def plan(*hosts: str, master: str = "") -> dict[str, Any]:
    agents = [
        {"role": "worker", "index": index, "host": host, "port": 1}
        for index, host in enumerate(hosts)
    ]
    ranks = [{"rank": index, "role": "worker", "index": index} for index in range(len(hosts))]
    return {"agents": agents, "ranks": ranks, "master_host": master, "world_size": len(hosts)}


def test_names_of_other_machines_are_looked_up_once_each() -> None:
    assert peers.hosts(plan("127.0.0.1", "127.0.0.2", master="localhost")) == []
    assert peers.hosts(plan("a.pods", "b.pods", master="a.pods")) == ["a.pods", "b.pods"]
    assert peers.hosts({"agents": [], "master_host": None}) == []


def test_a_name_that_never_resolves_is_returned_when_patience_ends() -> None:
    begun = time.monotonic()
    wanted = ["localhost", UNKNOWN]
    assert peers.await_names(wanted, threading.Event(), patience_s=0.3) == [UNKNOWN]
    assert time.monotonic() - begun >= 0.3
    assert peers.await_names(["localhost"], threading.Event(), patience_s=0.3) == []


def test_nobody_waits_for_names_once_that_is_cancelled() -> None:
    cancelled = threading.Event()
    cancelled.set()
    assert peers.await_names([UNKNOWN], cancelled, patience_s=60.0) == [UNKNOWN]


def test_the_interface_of_an_address_is_found() -> None:
    assert peers.interface("127.0.0.1") == "lo"
    assert peers.interface("192.0.2.1") == ""
    known = {name for _, name in socket.if_nameindex()}
    assert peers.interface(UNKNOWN) in {*known, ""}


@pytest.mark.parametrize(("interface", "told"), [("eth0", True), ("", False)])
def test_open_mpi_is_told_the_interface(tmp_path: pathlib.Path, interface: str, told: bool) -> None:
    words = mpi_command.command(plan("a.pods", "b.pods"), tmp_path, interface=interface)
    for name in ("oob_tcp_if_include", "btl_tcp_if_include"):
        assert (name in words) is told
        if told:
            assert words[words.index(name) + 1] == interface


def test_the_exit_record_goes_to_the_kubelet_too(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "termination-log"
    copy.touch()
    identity.record_exit(tmp_path, "boot", identity.Outcome(75, "Preempted"), copy=copy)
    assert json.loads(copy.read_bytes()) == json.loads((tmp_path / "exit.json").read_bytes())
    missing = tmp_path / "missing" / "log"
    identity.record_exit(tmp_path, "boot", identity.Outcome(0, "Completed"), copy=missing)
    assert not missing.exists()


def test_is_loopback_is_one_word_for_all() -> None:
    assert launching.is_loopback is peers.is_loopback
    assert [peers.is_loopback(host) for host in ("127.9.0.1", "localhost", "10.0.0.1")] == [
        True,
        True,
        False,
    ]
