"""A whole notebook as a program: your own functions, two workers, 200 iterations.

Start the platform in another shell with ``quintile up``, then run this file. It needs torch and
scikit-learn, as the workers do. ``no_of_ps`` is 2: the workers push their gradients to two
parameter servers. With 0 they share them by all-reduce, with the same result.
"""

from __future__ import annotations

import time

from quintile.sdk import Estimator, Experiment, HParams, RunConfig


def my_model_fn(hparams):
    """Return a small network for 8 x 8 images of digits."""
    from torch import nn

    width = hparams.get("width", 32)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * 16, 10),
    )


def input_fn(split, _hparams):
    """Return images and digits: every fifth image is for evaluation."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    held_out = np.arange(len(images)) % 5 == 0
    chosen = held_out if split == "eval" else ~held_out
    return images[chosen], digits.target[chosen]


def main():
    """Submit, wait, and print how it went."""
    name = f"hello-{int(time.time())}"
    estimator = Estimator.NewClassificationEstimator(model_fn=my_model_fn)
    estimator = Estimator.create(name, "Hello", estimator)
    hparams = HParams(iterations=200, batch_size=10)
    rc = RunConfig(
        no_of_ps=2,
        no_of_workers=2,
        summary_save_frequency=50,
        run_eval=True,
        use_gpu=False,
        checkpoint_frequency_in_steps=100,
    )
    exper = Experiment.run(
        experiment_name=name,
        description="Digits, two workers and two parameter servers",
        estimator=estimator,
        hyper_parameters=hparams,
        run_config=rc,
        dataset_version_split=None,
        input_function=input_fn,
    )
    job = exper.get_single_job()
    print(f"submitted {exper.name}: job {job.name}")
    print(f"finished: {job.has_finished()}")
    print(f"curves: {job.get_tensorboard_url()}")
    job.wait_until_finish()

    status = job.status()
    report = job.report()
    print(f"phase: {status.phase} in mode {status.mode}, {status.progress.step} steps")
    for metric, points in sorted(job.metrics().items()):
        print(f"  {metric}: " + ", ".join(f"{value:.4g} at {step}" for step, value in points[-4:]))
    print(f"images per second: {report['images_per_second']:.0f}")
    print(f"final accuracy: {report['evaluation']['metrics']['accuracy']:.4f}")
    model = job.load_model()
    print(f"model: {sum(weight.numel() for weight in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
