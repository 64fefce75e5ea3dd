"""Whether a script lets the platform keep its state is seen in its code, by names."""

from __future__ import annotations

import textwrap

import pytest

from quintile.sdk import state_keeping

KEPT = {
    "as Horovod's documentation": """
        import horovod.torch as hvd
        state = hvd.elastic.TorchState(model=1, optimizer=2, batch=0)

        @hvd.elastic.run
        def train(state): ...
    """,
    "its module": "import horovod.torch.elastic as elastic",
    "from its module": "from horovod.torch.elastic import TorchState, run",
    "from the package": "from horovod import torch as hvd\nrun = hvd.elastic.run",
    "our checkpoints": "import quintile\nquintile.checkpoint('out', step=1)",
    "our checkpoints by name": "from quintile import checkpoint\ncheckpoint('out', step=1)",
    "our context": """
        from quintile_trainer import context

        def save(step):
            context.current().checkpoint(step, "out")
    """,
}
OTHERS = {
    "nothing": "",
    "Horovod alone": "import horovod.torch as hvd\nhvd.init()",
    "another's elastic": "import horovod.torch as hvd\nimport mine\nmine.rubber.elastic_band()",
    "another's checkpoint": "from torch.utils import checkpoint\ncheckpoint.checkpoint(print)",
    "our metrics alone": "from quintile_trainer import context\ncontext.current().log(step=1)",
    "a comment": "# hvd.elastic, quintile.checkpoint\nimport horovod.torch, quintile",
    "no Python": "def (",
    "no text": "\0",
}


@pytest.mark.parametrize("code", KEPT.values(), ids=KEPT)
def test_it_is_seen(code: str) -> None:
    assert state_keeping.is_shown(textwrap.dedent(code).encode())


@pytest.mark.parametrize("code", OTHERS.values(), ids=OTHERS)
def test_nothing_is_seen(code: str) -> None:
    assert not state_keeping.is_shown(textwrap.dedent(code).encode())
