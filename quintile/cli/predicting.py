"""The prediction of ``quintile plan``: a calibration, made or read, and the curve that follows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quintile.cli import rendering, run_plans
from quintile.core import errors
from quintile.core.scaling import collectives, outlook, records, units
from quintile.core.scaling import predict as scaling
from quintile.sdk import checking, configuration

PROGRAM: Final = "quintile_trainer.calibrate"
LIMIT_S: Final = 300.0


@dataclass(frozen=True)
class Network:
    """What joins workers, and what they cost, as the options say it."""

    bandwidth: str
    latency: str
    per_host: int
    storage: str | None
    decode: bool
    price: float | None
    max_workers: int


@dataclass(frozen=True)
class Prepared:
    """The options, understood."""

    plan: scaling.Plan
    across: collectives.Link
    storage_bytes_per_s: float | None
    network: Network


@dataclass(frozen=True)
class Source:
    """Where the calibration is; ``fresh``: make it first."""

    path: Path | None
    fresh: bool


@dataclass(frozen=True)
class Prediction:
    """What is predicted, and from what; or why nothing is."""

    calibration: records.Calibration | None = None
    outlook: outlook.Outlook | None = None
    missing: str = ""


def prepare(wanted: run_plans.Wanted, network: Network) -> Prepared:
    """Return the options as numbers.

    Raises:
        InvalidSpec: One of them is none.
    """
    rate = units.bytes_per_s(network.bandwidth, field="bandwidth")
    storage = network.storage
    return Prepared(
        plan=scaling.Plan("servers", wanted.servers) if wanted.servers else scaling.Plan(),
        across=collectives.Link(units.seconds(network.latency, field="latency"), rate),
        storage_bytes_per_s=units.bytes_per_s(storage, field="storage") if storage else None,
        network=network,
    )


def predict(wanted: run_plans.Wanted, prepared: Prepared, source: Source) -> Prediction:
    """Return the prediction for an experiment.

    Raises:
        InvalidSpec: The calibration is of something else, or no calibration.
        Unavailable: It could not be made.
    """
    if wanted.run.use_gpu:
        return Prediction(missing="predictions are for processors; this experiment uses GPUs")
    if not wanted.model and source.path is None:
        return Prediction(
            missing="only built-in models can be calibrated; for your own code give --calibration"
        )
    path = source.path or default_path(wanted)
    if source.fresh:
        calibrate(wanted, path)
    if not source.fresh and source.path is None and not path.exists():
        return Prediction(missing="this machine is not calibrated for it; add --calibrate")
    calibration = read(path)
    profile = chosen(calibration, wanted, path)
    network = prepared.network
    wish = outlook.Wish(
        profile=profile.name,
        plan=prepared.plan,
        workers=wanted.run.workers.replicas,
        across=prepared.across,
        per_host=network.per_host,
        price=network.price,
        decodes=network.decode,
        storage_bytes_per_s=prepared.storage_bytes_per_s,
    )
    return Prediction(calibration, outlook.look(calibration, wish, up_to=network.max_workers))


def default_path(wanted: run_plans.Wanted) -> Path:
    """Return where the calibration of a built-in model is kept."""
    size = "x".join(str(one) for one in wanted.image)
    folder = configuration.client_file().parent / "calibrations"
    return folder / f"{wanted.model}-{wanted.batch}-{size}.json"


def calibrate(wanted: run_plans.Wanted, path: Path) -> None:
    """Measure this machine and write the calibration.

    Raises:
        Unavailable: It cannot be measured here; the message says why.
        InvalidSpec: It is no built-in model.
    """
    if not wanted.model:
        raise errors.InvalidSpec(
            "--calibrate works with built-in models only.",
            hint="Give --calibration FILE for your own code.",
            field="calibrate",
        )
    rendering.note(f"measuring {wanted.model} on this machine, up to a minute ...")
    size = "x".join(str(one) for one in wanted.image)
    given = ["--model", wanted.model, "--batch", str(wanted.batch), "--image", size]
    command = [sys.executable, "-m", PROGRAM, *given, "--out", str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise errors.Unavailable(
            f"The calibration of {wanted.model} took longer than {LIMIT_S:.0f} s.",
            hint="Try a smaller batch_size or image, or calibrate when the machine is idle.",
        ) from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise errors.Unavailable(
            f"The calibration of {wanted.model} failed: {lines[-1] if lines else 'no message'}.",
            hint="`quintile doctor` says whether training works on this machine.",
        )


def read(path: Path) -> records.Calibration:
    """Return the calibration in a file.

    Raises:
        InvalidSpec: There is none.
    """
    import json

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        words = " ".join(str(error).split())
        raise errors.InvalidSpec(
            f"The calibration {path} cannot be read: {words}.",
            hint="Make it with --calibrate.",
            field="calibration",
        ) from error
    return checking.parse(records.Calibration, document, what=f"The calibration {path}")


def chosen(
    calibration: records.Calibration, wanted: run_plans.Wanted, path: Path
) -> records.Profile:
    """Return the profile of a calibration that fits an experiment.

    Raises:
        InvalidSpec: None does.
    """
    if not wanted.model:
        return calibration.profiles[0]
    key = (wanted.model, wanted.batch, list(wanted.image))
    for profile in calibration.profiles:
        if (profile.model, profile.batch, profile.image) == key:
            return profile
    size = "x".join(str(one) for one in wanted.image)
    raise errors.InvalidSpec(
        f"The calibration {path} is of {calibration.profiles[0].name}; the run is of "
        f"{wanted.model}, {wanted.batch} x {size}.",
        hint="Calibrate it with --calibrate, or give --batch-size and --image of the calibration.",
        field="calibration",
    )
