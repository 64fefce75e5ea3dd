"""Rebuilds a trained model from what its job published. Needs torch, which loads on first use.

The SDK itself never imports torch; the trainer's own modules build the network here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from quintile.core import errors


def load(
    about: Mapping[str, Any],
    weights: bytes,
    *,
    hparams: Mapping[str, str],
    model_fn: Callable[..., Any] | None,
) -> Any:
    """Return the module with its weights, in evaluation mode.

    Args:
        about: ``model.json`` of the job.
        weights: ``model.safetensors`` of the job.
        hparams: Of the job, as text.
        model_fn: Builds the module of a job of the user's functions.

    Raises:
        InvalidSpec: The trainer is not installed here, ``model_fn`` is missing, or it builds
            another model.
    """
    classes = about.get("classes", [])
    if about.get("model") == "functions":
        if model_fn is None:
            raise errors.InvalidSpec(
                "This job trained a model of your own functions; load_model needs the model_fn.",
                hint="job.load_model(model_fn=my_model_fn)",
                field="model_fn",
            )
        facts = {"classes": len(classes), "channels": about["channels"]} if classes else {}
        model = model_fn({**facts, **_trainer("hyper").values(hparams)})
    else:
        model = _trainer("models.resnet").build(
            about["model"],
            channels=about["channels"],
            classes=len(classes),
            size=min(about["size"]),
        )
    tensors = _module("safetensors.torch").load(weights)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise errors.InvalidSpec(
            f"The stored weights do not fit the model: {error}.",
            hint="Use the model_fn that the job was submitted with.",
            field="model_fn",
        ) from error
    return model.eval()


def _trainer(name: str) -> ModuleType:
    return _module(f"quintile_trainer.{name}")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise errors.InvalidSpec(
            f"Loading a model needs {error.name}, which is not installed here.",
            hint="pip install 'quintile[trainer]'",
        ) from error
