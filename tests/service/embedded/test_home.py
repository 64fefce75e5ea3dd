"""The home folder: private, exclusive, with keys that are made once."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import shutil
import stat

import pytest

from quintile.core import errors
from quintile_embedded import home as homes


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_home_and_its_keys_are_for_the_owner_alone(tmp_path: pathlib.Path) -> None:
    home = homes.open_home(tmp_path / "deep" / "home")
    homes.ensure_keys(home)
    assert mode(home.root) == 0o700
    assert [mode(path) for path in home.root.iterdir()] == [0o700] * 5
    assert [mode(path) for path in home.keys.iterdir()] == [0o600] * 4


def test_a_home_that_others_could_enter_is_closed(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o755)
    home = homes.open_home(tmp_path)
    assert mode(home.root) == 0o700


@pytest.mark.parametrize("existing", ["notes.txt", "data", ".git"])
def test_a_folder_of_other_things_is_left_alone(tmp_path: pathlib.Path, existing: str) -> None:
    (tmp_path / existing).mkdir()
    tmp_path.chmod(0o755)
    with pytest.raises(errors.InvalidSpec, match=rf"holds other things \({existing}\)") as caught:
        homes.open_home(tmp_path)
    assert caught.value.hint == "Name a new or an empty folder: quintile up --home FOLDER."
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert mode(tmp_path) == 0o755


def test_a_home_may_hold_other_things_later(tmp_path: pathlib.Path) -> None:
    (tmp_path / "calibrations").mkdir()
    homes.ensure_keys(homes.open_home(tmp_path))
    (tmp_path / "notes.txt").write_text("mine")
    assert homes.open_home(tmp_path).root == tmp_path


def test_a_user_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.InvalidSpec, match="a user that is not known here"):
        homes.open_home(pathlib.Path("~no-such-user/home"))


def test_keys_stay(tmp_path: pathlib.Path) -> None:
    home = homes.open_home(tmp_path)
    first = homes.ensure_keys(home)
    (home.keys / "urls.key").chmod(0o644)
    assert homes.ensure_keys(home) == first
    assert len({first.urls, first.session, bytes.fromhex(first.service_token)}) == 3
    assert mode(home.keys / "urls.key") == 0o600


def test_a_cut_off_key_is_refused(tmp_path: pathlib.Path) -> None:
    home = homes.open_home(tmp_path)
    homes.ensure_keys(home)
    (home.keys / "session.key").write_bytes(b"short")
    with pytest.raises(errors.InvalidSpec, match=r"session\.key has 5 bytes; expected 32"):
        homes.ensure_keys(home)


def test_a_home_belongs_to_one_instance(tmp_path: pathlib.Path) -> None:
    home = homes.open_home(tmp_path)
    with homes.claim(home) as lock:
        homes.sign(lock, "http://127.0.0.1:8420")
        with (
            pytest.raises(errors.Conflict, match=rf"8420 \(process {os.getpid()}\).*--home"),
            homes.claim(home),
        ):
            pass
        assert json.loads(home.lock.read_bytes())["pid"] == os.getpid()
    with homes.claim(home):
        assert home.lock.read_bytes() == b""


def test_a_home_that_is_just_starting_is_taken_too(tmp_path: pathlib.Path) -> None:
    home = homes.open_home(tmp_path)
    with (
        homes.claim(home),
        pytest.raises(errors.Conflict, match="just starting"),
        homes.claim(home),
    ):
        pass


def test_a_file_is_no_home(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(errors.InvalidSpec, match=r"cannot be used: .*--home"):
        homes.open_home(path)


def test_a_full_disk_is_said_before_anything_is_made(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(100, 99, 1024 * 1024))
    with pytest.raises(errors.StoreFull, match=r"has 1 MiB free; at least 64 MiB .*Free space"):
        homes.open_home(tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_a_private_file_is_replaced_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "client.json"
    path.write_text("old and much longer than the new one")
    homes.write_private(path, b"{}")
    assert path.read_bytes() == b"{}"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]
