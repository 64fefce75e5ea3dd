"""Generated files are written once, and drift is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from quintile.settings import generated

TEXTS = {"a.txt": "one\n", "deep/b.txt": "two\n"}


def test_writes_then_agrees(tmp_path: Path) -> None:
    assert generated.main(TEXTS, goal="things", argv=[str(tmp_path)]) == 0
    assert (tmp_path / "deep" / "b.txt").read_text() == "two\n"
    assert generated.main(TEXTS, goal="things", argv=["--check", str(tmp_path)]) == 0


@pytest.mark.parametrize("change", ["gone", "edited"])
def test_check_names_what_drifted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    generated.main(TEXTS, goal="things", argv=[str(tmp_path)])
    path = tmp_path / "a.txt"
    path.unlink() if change == "gone" else path.write_text("other\n")
    assert generated.main(TEXTS, goal="things", argv=["--check", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{path} is out of date; run `make things`.\n"


def test_the_target_can_be_one_file(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    assert generated.main({"": "words\n"}, goal="things", argv=[str(path)]) == 0
    assert path.read_text() == "words\n"
