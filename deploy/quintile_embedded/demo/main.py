"""The demo from start to report: starts a platform, takes the steps, cleans up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from quintile import logs
from quintile.core import errors
from quintile.sdk import client as clients
from quintile_embedded.demo import (
    curve,
    data,
    digits,
    labels,
    report,
    server,
    show,
    training,
)

INTERRUPTED: Final = 130
FAILED: Final = 1


@dataclass(frozen=True)
class Options:
    """How the demo runs.

    Attributes:
        seed: Of every draw.
        keep: Leave the platform running, with its home, so that ``ui`` can be opened.
        connect: Use the platform that QUINTILE_URL names; nothing is started or stopped.
        report: Where the JSON report goes.
        setup_seconds: What the setup before took, for the report.
    """

    seed: int = 0
    keep: bool = False
    connect: bool = False
    report: pathlib.Path = pathlib.Path("demo-report.json")
    setup_seconds: float = 0.0


def run(options: Options) -> int:
    """Run the demo; return its exit code. What failed is said on standard error.

    Raises:
        InvalidSpec: The report cannot be written where it shall go.
    """
    begun_s = time.monotonic()
    logs.configure(level="error")
    if not os.access(options.report.absolute().parent, os.W_OK) or options.report.is_dir():
        raise errors.InvalidSpec(
            f"The report cannot be written to {options.report}: no such folder, or not writable.",
            hint="Name a file in a folder that you may write to: --report FILE.",
            field="report",
        )
    try:
        with _terminable():
            found = _run(options, show.choose(), begun_s)
            options.report.write_text(found.json(), encoding="utf-8")
    except errors.QuintileError as error:
        sys.stderr.write(f"\nThe demo failed: {error}\n")
        return FAILED
    except (TimeoutError, OSError) as error:
        sys.stderr.write(f"\nThe demo failed: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("\nThe demo was interrupted; its platform is stopped.\n")
        return INTERRUPTED
    sys.stdout.write(f"\n{found.text()}\n\nWritten to {options.report}.\n")
    return 0


def _run(options: Options, shown: show.Show, begun_s: float) -> report.Report:
    if options.connect:
        return _play(options, shown, server.known(), begun_s)
    platform = server.start()
    kept = False
    try:
        found = _play(options, shown, platform, begun_s)
        kept = options.keep
    finally:
        if not kept:
            platform.stop()
    if kept:
        sys.stderr.write(
            f"The platform goes on: {found.ui}\n"
            f"  sign in  QUINTILE_HOME={platform.home} quintile link\n"
            f"  stop     kill {platform.process.pid}; its home is {platform.home}\n"
        )
    return found


def _play(
    options: Options, shown: show.Show, platform: server.Platform, begun_s: float
) -> report.Report:
    place = "of QUINTILE_URL" if options.connect else "in a temporary home"
    title = f"{'Reach' if options.connect else 'Start'} the platform {place}"
    with shown.step(title) as step:
        platform.wait_ready()
        step.update(1, 1, platform.url)
    return asyncio.run(_steps(options, shown, platform, begun_s))


async def _steps(
    options: Options, shown: show.Show, platform: server.Platform, begun_s: float
) -> report.Report:
    async with clients.AsyncClient(platform.url, token=platform.token) as client:
        stage = data.Stage(client, digits.load(), options.seed, platform.project)
        with shown.step("Import the images, without labels") as step:
            version = await data.import_images(stage, step)
        with shown.step("Draw a test split, labelled by the truth") as step:
            await data.draw_split(stage, step)
        with shown.step("Label, certify, export version 2") as step:
            labelled = await labels.label(stage, step)
        with shown.step("Train on version 2 with one worker") as step:
            single = await training.train(
                stage, step, name=training.SINGLE, mode="single", workers=1
            )
        with shown.step("Train on version 2 with two workers (DDP)") as step:
            pair = await training.train(stage, step, name=training.PAIR, mode="ddp", workers=2)
        with shown.step("Draw the curve without a certificate") as step:
            points = await curve.draw(stage, step)
    certificate = labelled.certificate
    certified = certificate.outcome.startswith("Certified")
    return report.Report(
        items=version.items,
        human_labels=labelled.stats.human,
        human_label_fraction=labelled.stats.human / version.items,
        auto_label_accuracy=labelled.machine_accuracy,
        target_error=certificate.target_error,
        certified_error=certificate.certified_error if certified else None,
        true_error=labelled.true_error,
        certificate_mode=certificate.mode,
        curve=points,
        label_seconds=round(labelled.seconds, 2),
        experiments=[single, pair],
        setup_seconds=options.setup_seconds,
        total_seconds=round(time.monotonic() - begun_s, 2),
        ui=platform.url,
    )


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that it cleans up."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
