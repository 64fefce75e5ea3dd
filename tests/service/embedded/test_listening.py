"""Which address is taken, and what is said when it cannot be."""

from __future__ import annotations

import pathlib

import pytest

from quintile import settings
from quintile.core import errors
from quintile_embedded import home as homes
from quintile_embedded import listening

LOCAL = "127.0.0.1"


def test_the_port_of_the_last_start_is_taken_again(tmp_path: pathlib.Path) -> None:
    home = homes.open_home(tmp_path)
    assert listening.choose(settings.Settings(), home).port == 8420
    home.port.write_text("20123")
    assert listening.choose(settings.Settings(), home).port == 20123
    assert listening.choose(settings.Settings(port=9000), home).port == 9000
    home.port.write_text("not a port")
    assert listening.choose(settings.Settings(), home).port == 8420


def test_any_free_port_is_one_that_nobody_gets_by_chance() -> None:
    listener, address = listening.listen(listening.Address(LOCAL, 0))
    with listener:
        assert address.port in listening.QUIET_PORTS
        assert address.url == f"http://{LOCAL}:{address.port}"


def test_a_port_in_use_is_named_with_a_way_out() -> None:
    listener, address = listening.listen(listening.Address(LOCAL, 0))
    with listener, pytest.raises(errors.InvalidSpec) as caught:
        listening.listen(address)
    assert f"Port {address.port} of {LOCAL} is in use" in str(caught.value)
    assert "--port 0" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("no-such-host.invalid", "cannot be found"),
        ("192.0.2.7", "Cannot listen on 192.0.2.7"),
    ],
)
def test_a_host_that_is_not_ours_is_refused(host: str, words: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=words):
        listening.listen(listening.Address(host, 18420))


def test_agents_call_an_address_of_this_machine() -> None:
    assert listening.Address("0.0.0.0", 1).url == "http://127.0.0.1:1"
    assert listening.Address("::1", 1).url == "http://[::1]:1"
    assert listening.is_loopback("localhost")
    assert not listening.is_loopback("0.0.0.0")
