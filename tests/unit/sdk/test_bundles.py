"""Code bundles: which files travel, which never, and what the trainer makes of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from quintile.core import errors
from quintile.sdk import bundles, code_files, ignoring
from quintile_trainer.agent import bundles as agent_bundles


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "part").mkdir(parents=True)
    (folder / "train.py").write_text("import part\n")
    (folder / "part" / "__init__.py").write_text("")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "train.pyc").write_bytes(b"x")
    return folder


def names(bundle: bundles.Bundle) -> list[str]:
    return [one.name for one in bundle.files]


def git(folder: Path, *words: str) -> None:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, env=env, stdout=-3)


class TestChoice:
    def test_without_git_everything_but_what_is_generated(self, code: Path) -> None:
        (code / ".hidden").write_text("x")
        assert names(bundles.of_script(code / "train.py")) == ["part/__init__.py", "train.py"]

    def test_git_decides_and_names_what_it_leaves_out(self, code: Path) -> None:
        git(code, "init", "-q")
        git(code, "add", "part")
        (code / "other.py").write_text("")
        (code / "data.bin").write_bytes(b"x")
        found = bundles.of_script(code / "train.py")
        assert names(found) == ["part/__init__.py", "train.py"]
        assert found.notes == ("left out, because git does not track them: other.py",)

    def test_an_ignore_file_decides_instead_of_git(self, code: Path) -> None:
        git(code, "init", "-q")
        (code / "data.bin").write_bytes(b"x")
        (code / "keep.txt").write_text("x")
        (code / ".quintileignore").write_text("# data\n*.bin\n")
        found = names(bundles.of_script(code / "train.py"))
        assert found == ["keep.txt", "part/__init__.py", "train.py"]

    def test_a_wider_folder(self, code: Path) -> None:
        found = bundles.of_script(code / "train.py", folder=code.parent)
        assert found.entry == "code/train.py"

    def test_equal_content_gives_equal_bytes(self, code: Path) -> None:
        first = bundles.of_script(code / "train.py")
        os.utime(code / "train.py", (1, 1))
        assert bundles.of_script(code / "train.py").sha256 == first.sha256


class TestRefusals:
    @pytest.mark.parametrize(
        "name", [".env", ".env.local", "server.pem", "private.key", "id_rsa", ".netrc", "a.p12"]
    )
    def test_files_with_credentials(self, code: Path, name: str) -> None:
        (code / "part" / name).write_text("x")
        git(code, "init", "-q")
        git(code, "add", "-f", ".")
        with pytest.raises(
            errors.InvalidSpec, match="looks like a file with credentials"
        ) as caught:
            bundles.of_script(code / "train.py")
        assert caught.value.field == f"part/{name}"

    def test_a_key_under_another_name(self, code: Path) -> None:
        (code / "notes.txt").write_text("-----BEGIN OPENSSH " + "PRIVATE KEY-----\nx\n")
        with pytest.raises(errors.InvalidSpec, match=r"notes\.txt looks like"):
            bundles.of_script(code / "train.py")

    def test_a_sample_of_settings_is_fine(self, code: Path) -> None:
        (code / ".quintileignore").write_text("!.env.example\n")
        (code / ".env.example").write_text("TOKEN=")
        assert ".env.example" in names(bundles.of_script(code / "train.py"))

    def test_a_link_that_leaves_the_folder(self, code: Path) -> None:
        (code.parent / "secret.txt").write_text("x")
        (code / "link.txt").symlink_to(code.parent / "secret.txt")
        with pytest.raises(errors.InvalidSpec, match=r"link\.txt is a link that leaves"):
            bundles.of_script(code / "train.py")

    def test_a_link_inside_is_followed(self, code: Path) -> None:
        (code / "again.py").symlink_to(code / "train.py")
        assert "again.py" in names(bundles.of_script(code / "train.py"))

    def test_too_much(self, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bundles, "LIMIT_BYTES", 1000)
        (code / "big.txt").write_text("x" * 2000)
        with pytest.raises(errors.TooLarge, match=r"Largest: big\.txt"):
            bundles.of_script(code / "train.py")

    def test_the_name_of_the_header(self, code: Path) -> None:
        (code / "header.json").write_text("{}")
        with pytest.raises(errors.InvalidSpec, match=r"a file header\.json"):
            bundles.of_script(code / "train.py")

    def test_no_such_script(self, code: Path) -> None:
        with pytest.raises(errors.InvalidSpec, match="There is no script"):
            bundles.of_script(code / "missing.py")

    def test_a_script_elsewhere(self, code: Path, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        with pytest.raises(errors.InvalidSpec, match="not inside of the folder"):
            bundles.of_script(code / "train.py", folder=tmp_path / "other")


def test_the_agent_unpacks_it(code: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.zip"
    archive.write_bytes(bundles.of_script(code / "train.py").data)
    agent_bundles.unpack(archive, tmp_path / "unpacked")
    header = json.loads((tmp_path / "unpacked" / "header.json").read_text())
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert header == {"format": 1, "kind": "script", "python": python}
    assert (tmp_path / "unpacked" / "part" / "__init__.py").is_file()


def test_every_member_is_a_plain_file(code: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(bundles.of_script(code / "train.py").data)) as archive:
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*.bin", "a/b/data.bin", True),
        ("*.bin", "a/data.bin.txt", False),
        ("/data", "data", True),
        ("/data", "a/data", False),
        ("a/*.txt", "a/b.txt", True),
        ("a/*.txt", "a/b/c.txt", False),
        ("a/**/c.txt", "a/b/d/c.txt", True),
        ("a/**/c.txt", "a/c.txt", True),
        ("*.txt\n!keep.txt", "keep.txt", False),
        ("build/", "build", False),
        ("?.py", "a.py", True),
        ("?.py", "ab.py", False),
    ],
)
def test_patterns(patterns: str, path: str, ignored: bool) -> None:
    rules = ignoring.parse(patterns.split("\n"))
    assert ignoring.is_ignored(rules, path, folder=False) is ignored


def test_a_folder_pattern_matches_folders_only() -> None:
    rules = ignoring.parse(["build/"])
    assert ignoring.is_ignored(rules, "a/build", folder=True)


def test_the_ignore_file_has_one_name() -> None:
    assert code_files.IGNORE_FILE == ".quintileignore"
