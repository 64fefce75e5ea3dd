"""The command line without a server: help, usage, exit codes, rendering."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from quintile.cli import apply, applying, failures, main, reference, rendering, submitting
from quintile.cli.options import Output
from quintile.core import errors

ROOT = Path(__file__).resolve().parents[3]


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    code = caught.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server is known."""
    monkeypatch.setenv("QUINTILE_HOME", str(tmp_path / "home"))
    for key in ("QUINTILE_URL", "QUINTILE_TOKEN", "QUINTILE_PROJECT"):
        monkeypatch.delenv(key, raising=False)


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (errors.QuintileError("x"), 1),
            (errors.RunFailed("x"), 1),
            (errors.InvalidSpec("x"), 2),
            (errors.TooLarge("x"), 2),
            (errors.NotFound("x"), 3),
            (errors.Unauthorized("x"), 4),
            (errors.Forbidden("x"), 4),
            (errors.Unavailable("x"), 4),
            (errors.StoreFull("x"), 4),
            (errors.Conflict("x"), 5),
            (errors.Fenced("x"), 5),
            (TimeoutError("x"), 124),
            (KeyboardInterrupt(), 130),
            (RuntimeError("x"), 1),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    def test_table(self, error: BaseException, code: int) -> None:
        assert failures.code_of(error) == code

    def test_message_and_hint_go_to_stderr(self, capsys: Any) -> None:
        assert failures.report(errors.NotFound("No job 'a'.", hint="Look at the list.")) == 3
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err == "error: No job 'a'.\nhint: Look at the list.\n"

    def test_a_mistake_of_ours_shows_no_traceback(self, capsys: Any) -> None:
        failures.report(RuntimeError("oops"))
        shown = capsys.readouterr().err
        assert "RuntimeError: oops" in shown
        assert "Traceback" not in shown

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["experiment", "list"], 4, "No Quintile server is known"),
            (["run"], 2, "either a script or --model"),
            (["run", "a.py", "--model", "resnet8"], 2, "it got both"),
            (["run", "--model", "resnet8", "--set", "lr"], 2, "expected NAME=VALUE"),
            (["run", "a.py", "-w", "0"], 2, "workers"),
            (["dataset", "import", "a", "missing"], 2, "There is no file or folder"),
            (["dataset", "create", "Bad Name"], 2, "name"),
            (["label", "simulate", "a", "--truth", "missing.csv"], 2, "cannot be read"),
            (["label", "simulate", "a"], 2, "truth"),
            (["apply", "-f", "missing.yaml"], 2, "cannot be read"),
            (["nonsense"], 2, "nonsense"),
            (["experiment", "list", "-o", "xml"], 2, "xml"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_commands(self, words: list[str], code: int, message: str, capsys: Any) -> None:
        assert call(*words) == code
        shown = capsys.readouterr()
        assert shown.out == ""
        assert message in shown.err
        assert "Traceback" not in shown.err

    def test_debug_shows_where(self) -> None:
        with pytest.raises(errors.Unavailable):
            main.main(["--debug", "experiment", "list"])


class TestHelp:
    def test_names_all_groups(self, capsys: Any) -> None:
        assert call("--help") == 0
        shown = capsys.readouterr().out
        for name in ("up", "demo", "doctor", "run", "apply", "experiment", "dataset", "label"):
            assert name in shown

    def test_version(self, capsys: Any) -> None:
        assert call("version") == 0
        assert capsys.readouterr().out.strip()

    def test_every_command_and_option_is_described(self) -> None:
        found = dict(reference._commands(typer.main.get_command(main.app), "quintile"))
        assert len(found) >= 40
        for path, command in found.items():
            assert command.help, path
            assert all(one.help for one in command.params if not getattr(one, "hidden", 0)), path


class TestRendering:
    COLUMNS = {"name": ["a", "bb"], "items": [1797, 3], "share": [0.123456, None]}
    DOCUMENTS = [{"name": "a"}, {"name": "bb"}]

    def written(self, output: Output, capsys: Any) -> str:
        rendering.write_list(self.DOCUMENTS, self.COLUMNS, output, name="name")
        text = capsys.readouterr().out
        assert isinstance(text, str)
        return text

    def test_table(self, capsys: Any) -> None:
        lines = self.written(Output.TABLE, capsys).splitlines()
        assert [line.split() for line in lines] == [
            ["NAME", "ITEMS", "SHARE"],
            ["a", "1,797", "0.1235"],
            ["bb", "3", "-"],
        ]

    def test_a_table_is_never_cut(self, capsys: Any) -> None:
        rendering.write_table({"text": ["x" * 500], "more": ["[red]y[/red]"]})
        shown = capsys.readouterr().out
        assert "x" * 500 in shown
        assert "[red]y[/red]" in shown

    def test_names(self, capsys: Any) -> None:
        assert self.written(Output.NAME, capsys) == "a\nbb\n"

    def test_json_and_yaml(self, capsys: Any) -> None:
        assert self.written(Output.JSON, capsys).startswith("[\n  {")
        assert self.written(Output.YAML, capsys) == "- name: a\n- name: bb\n"

    def test_nothing_to_show(self, capsys: Any) -> None:
        rendering.write_list([], {"name": []}, Output.TABLE, name="name")
        assert capsys.readouterr().out.strip() == "NAME"

    @pytest.mark.parametrize(
        ("value", "text"),
        [(None, "-"), (True, "yes"), (1234567, "1,234,567"), (0.00012346, "0.0001235"), ("a", "a")],
    )
    def test_words(self, value: object, text: str) -> None:
        assert rendering.word(value) == text

    @pytest.mark.parametrize(("value", "text"), [(None, "-"), ("", "-"), ("0.0213", "2.13 %")])
    def test_percent(self, value: str | None, text: str) -> None:
        assert rendering.percent(value) == text


class TestApply:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "holds no document"),
            ("a: [", "cannot be read"),
            ("- 1", "is a list, expected a mapping"),
            ("kind: Pod", "of kind 'Pod'; expected Experiment or LabelingJob"),
            ("kind: Experiment", "no metadata.name"),
            ("kind: Experiment\nmetadata: {name: a}\napiVersion: v1", "has apiVersion 'v1'"),
        ],
    )
    def test_files_that_hold_nothing_of_ours(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "a.yaml"
        path.write_text(text)
        with pytest.raises(errors.InvalidSpec, match=message):
            list(apply.read(path))

    def test_several_documents_and_stdin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one = "kind: Experiment\nmetadata: {name: a}\n"
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{one}---\n{one}---\n"))
        assert len(list(apply.read(Path("-")))) == 2

    @pytest.mark.parametrize("name", ["builtin.yaml", "labeling.yaml", "parameter_servers.yaml"])
    def test_the_examples_are_good(self, name: str) -> None:
        from quintile.core import experiment, labeling_job

        kinds = {"Experiment": experiment.Experiment, "LabelingJob": labeling_job.LabelingJob}
        for document in apply.read(ROOT / "examples" / name):
            applying.check_head(document, where=name)
            kinds[document["kind"]].model_validate(document)


@pytest.mark.parametrize("stem", ["train", "My Script", "3d", "___", "a" * 80, "ünï"])
def test_default_names_are_names(stem: str) -> None:
    import re

    name = submitting.default_name(stem)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name)
    assert name != submitting.default_name(stem)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Restart=1", {"action": "Restart", "exitCodes": [1]}),
        ("RestartUncounted=42, 43", {"action": "RestartUncounted", "exitCodes": [42, 43]}),
        ("Fail=:licence*refused", {"action": "Fail", "logPattern": "licence*refused"}),
        (
            "Restart=1:reset: by peer",
            {"action": "Restart", "exitCodes": [1], "logPattern": "reset: by peer"},
        ),
    ],
)
def test_failure_rules(text: str, rule: dict[str, Any]) -> None:
    assert submitting.rules([text]) == [rule]


@pytest.mark.parametrize("text", ["Fail", "Fail=", "Fail=:", "Fail=one", "Fail=-9", "42=Fail"])
def test_a_failure_rule_that_says_nothing(text: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=r"--failure-rule got .*ACTION=CODES\[:TEXT\]"):
        submitting.rules(["Restart=1", text])
