"""What ``quintile run`` does: plan or submit, then watch."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quintile.cli import connecting, rendering, run_options, watching
from quintile.cli.options import Output
from quintile.core import errors
from quintile.sdk import (
    blocking,
    bundles,
    configuration,
    data,
    estimators,
    experiments,
    following,
    run_calls,
    run_config,
    submission,
)

NAME_LENGTH: Final = 30


@dataclass(frozen=True)
class Program:
    """What to run: a script with arguments, or a built-in model."""

    script: Path | None
    arguments: tuple[str, ...]
    folder: Path | None
    model: str | None

    def estimator(self) -> estimators.Estimator:
        """Return the estimator.

        Raises:
            InvalidSpec: Neither or both are given.
        """
        if (self.script is None) == (self.model is None):
            count = "neither" if self.script is None else "both"
            raise errors.InvalidSpec(
                f"quintile run takes either a script or --model; it got {count}.",
                hint="As: quintile run train.py, or: quintile run --model resnet8 --dataset NAME",
            )
        if self.script is None:
            return estimators.Estimator.builtin(str(self.model))
        return estimators.Estimator.script(self.script, args=self.arguments, folder=self.folder)

    def stem(self) -> str:
        """Return the word that a default name begins with."""
        return self.script.stem if self.script is not None else str(self.model)


@dataclass(frozen=True)
class Words:
    """What the user calls it, and the data and hyperparameters."""

    name: str | None
    dataset: str | None
    hparams: Mapping[str, str]
    description: str


@dataclass(frozen=True)
class Manner:
    """How the command behaves."""

    project: str | None
    output: Output
    dry_run: bool
    detach: bool
    rank: int
    timeout_s: float | None


def run(program: Program, config: run_config.RunConfig, words: Words, manner: Manner) -> None:
    """Plan or submit a run, and watch it until the end.

    Raises:
        RunFailed: It failed or was stopped.
        TimeoutError: It took longer than asked for.
    """
    configuration.refuse_inside_rank()
    estimator = program.estimator()
    name = words.name or default_name(program.stem())
    with connecting.session(manner.project) as session:
        wanted = submission.Wanted(
            estimator=estimator,
            hparams=run_config.HParams(extra=words.hparams),
            config=config,
            dataset=data.reference(session, words.dataset),
            description=words.description,
        )
        if manner.dry_run:
            _show_plan(session, name, wanted, manner.output)
            return
        for line in experiments.submit(session, name, wanted):
            rendering.note(f"note: {line}")
        rendering.note(f"experiment {name} submitted")
        if manner.detach:
            rendering.write_lines([name])
        else:
            _follow(session, name, manner)


def default_name(stem: str) -> str:
    """Return a fresh experiment name made from a word."""
    word = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:NAME_LENGTH].strip("-")
    begins = word if word[:1].isalpha() else f"run-{word}".strip("-")
    return f"{begins}-{secrets.token_hex(2)}"


def config(given: Mapping[str, Any]) -> run_config.RunConfig:
    """Return what the options of ``quintile run`` say about the run, by their names.

    Raises:
        InvalidSpec: One cannot be read.
    """
    words = {field: given[option] for option, field in run_options.FIELDS.items()}
    return run_config.RunConfig(
        **words,
        run_eval=not given["no_eval"],
        failure_rules=rules(given["rules"]),
        env=pairs(given["env"], "--env"),
        secrets=secret_folders(given["secrets"]),
    )


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts by name.

    Raises:
        InvalidSpec: One is not of that form, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise errors.InvalidSpec(
                f"{option} got {text!r}; expected NAME=VALUE.",
                hint=f"Repeat {option} for several.",
                field=option.lstrip("-"),
            )
        if name.strip() in found:
            raise errors.InvalidSpec(
                f"{option} names {name.strip()!r} more than once.",
                hint="Give every name once.",
                field=option.lstrip("-"),
            )
        found[name.strip()] = value
    return found


def secret_folders(given: Sequence[str] | None) -> dict[str, str | None]:
    """Return ``NAME`` or ``NAME=FOLDER`` texts as folder by name; None = environment variables.

    Raises:
        InvalidSpec: A name comes twice, or ``=`` is followed by nothing.
    """
    found: dict[str, str | None] = {}
    for text in given or ():
        name, equals, folder = text.partition("=")
        if not name or name in found or (equals and not folder):
            raise errors.InvalidSpec(
                f"--secret got {text!r}; expected NAME or NAME=FOLDER, and each name once.",
                hint="As: --secret registry-login --secret tokens=/secrets/tokens",
                field="secret",
            )
        found[name] = folder or None
    return found


def rules(given: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return failure rules of the form ``ACTION=CODES``, ``ACTION=:TEXT`` or ``ACTION=CODES:TEXT``.

    Raises:
        InvalidSpec: One is not of that form; actions and codes are checked with the whole spec.
    """
    return [_rule(text) for text in given or ()]


def _rule(text: str) -> dict[str, Any]:
    action, equals, when = text.partition("=")
    codes, _, pattern = when.partition(":")
    numbers = [code.strip() for code in codes.split(",") if code.strip()]
    if not equals or not (numbers or pattern) or not all(code.isdecimal() for code in numbers):
        raise errors.InvalidSpec(
            f"--failure-rule got {text!r}; expected ACTION=CODES[:TEXT].",
            hint='As RestartUncounted=42,43, or "Fail=:licence*refused" for a text alone.',
            field="failure-rule",
        )
    rule: dict[str, Any] = {"action": action.strip()}
    if numbers:
        rule["exitCodes"] = [int(code) for code in numbers]
    return {**rule, "logPattern": pattern} if pattern else rule


def _follow(session: blocking.Session, name: str, manner: Manner) -> None:
    rank = None if manner.rank < 0 else manner.rank
    try:
        trial = session.run(following.first_trial(session.client, session.project, name))
        found = watching.watch(session, trial, rank=rank, timeout_s=manner.timeout_s)
    except KeyboardInterrupt:
        rendering.note(
            f"\n{name} goes on: `quintile experiment logs -f {name}` shows it, "
            f"`quintile experiment stop {name}` ends it"
        )
        raise
    following.refuse_failure(found)
    if following.phase(found) == "Stopped":
        raise errors.RunFailed(f"Experiment {name} was stopped.", reason="Stopped")
    words = following.metric_words(found.status.progress) if found.status is not None else ""
    rendering.note(f"experiment {name} succeeded" + (f": {words}" if words else ""))


def _show_plan(
    session: blocking.Session, name: str, wanted: submission.Wanted, output: Output
) -> None:
    bundle = submission.pack(wanted)
    spec = submission.spec_of(wanted, bundle)
    run_calls.check(spec)
    found = session.run(session.client.experiments.plan(session.project, name, spec))
    if output is Output.NAME:
        rendering.write_lines([name])
    elif output is Output.TABLE:
        _show_plans(name, found.plans)
        if bundle is not None:
            _show_bundle(bundle)
    else:
        document = {"name": name, "spec": spec, "plans": found.plans, "bundle": _listing(bundle)}
        rendering.write_document(document, output)


def _show_plans(name: str, plans: Sequence[Mapping[str, Any]]) -> None:
    for plan in plans:
        replicas = plan["replicas"]
        rendering.write_facts({"experiment": name, "mode": plan["mode"]})
        rendering.write_table(
            {
                "replica": [one["name"] for one in replicas],
                "role": [one["role"] for one in replicas],
                "ranks": [one["procs"] for one in replicas],
                "command": [" ".join(one["argv"]) for one in replicas],
            }
        )


def _show_bundle(bundle: bundles.Bundle) -> None:
    size_kb = len(bundle.data) / 1000
    head = f"code {bundle.sha256[:12]}: {len(bundle.files)} files, {size_kb:.1f} kB packed"
    rendering.write_lines([head])
    rendering.write_lines(f"  {one.name}  {one.size_bytes:,} bytes" for one in bundle.files)
    for line in bundle.notes:
        rendering.note(f"note: {line}")


def _listing(bundle: bundles.Bundle | None) -> dict[str, Any] | None:
    if bundle is None:
        return None
    files = [{"name": one.name, "size": one.size_bytes} for one in bundle.files]
    return {"sha256": bundle.sha256, "entry": bundle.entry, "files": files}
