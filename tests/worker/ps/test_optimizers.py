"""Steps on chunks are torch's on whole tensors, bit for bit; sums are those in rank order."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile_trainer import failures
from quintile_trainer.ps import binding, layout, memory, optimizers, state, sums

RULES = [
    optimizers.Rule("sgd", decays=(0.0,)),
    optimizers.Rule("sgd", decays=(5e-4,), momentum=0.9),
    optimizers.Rule("sgd", decays=(5e-4,), momentum=0.9, nesterov=True),
    optimizers.Rule("adam", decays=(1e-3,), betas=(0.8, 0.99), eps=1e-6),
    optimizers.Rule("adamw", decays=(1e-2,)),
]


def torch_optimizer(rule: optimizers.Rule, parameter: torch.Tensor) -> torch.optim.Optimizer:
    decay = rule.decays[0]
    if rule.kind == "sgd":
        return torch.optim.SGD(
            [parameter],
            lr=1.0,
            momentum=rule.momentum,
            nesterov=rule.nesterov,
            weight_decay=decay,
        )
    kind = torch.optim.Adam if rule.kind == "adam" else torch.optim.AdamW
    return kind([parameter], lr=1.0, betas=rule.betas, eps=rule.eps, weight_decay=decay)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind}-{rule.momentum}")
@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(1, 500),
    cuts=st.lists(st.integers(1, 499), max_size=4),
    seed=st.integers(0, 1000),
)
def test_chunks_equal_whole_tensors(
    rule: optimizers.Rule, size: int, cuts: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(size, generator=generator)
    whole = first.clone().requires_grad_()
    theirs = torch_optimizer(rule, whole)
    borders = [0, *sorted({cut for cut in cuts if cut < size}), size]
    chunks = [
        optimizers.State(
            master=first[start:stop].clone(),
            entries=tuple(torch.zeros(stop - start) for _ in rule.entries),
            decay=rule.decays[0],
        )
        for start, stop in itertools.pairwise(borders)
    ]
    for step in range(4):
        gradient = torch.randn(size, generator=generator)
        rate = 0.1 / (step + 1)
        whole.grad = gradient.clone()
        theirs.param_groups[0]["lr"] = rate
        theirs.step()
        for chunk, (start, stop) in zip(chunks, itertools.pairwise(borders), strict=True):
            optimizers.step(rule, chunk, gradient[start:stop].clone(), rate)
        assert torch.equal(torch.cat([chunk.master for chunk in chunks]), whole.detach())


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(5)),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=st.integers(0, 99),
)
def test_sums_do_not_depend_on_the_order_of_arrival(
    order: list[int], dtype: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    kind = memory.DTYPES[dtype]
    parts = [(torch.randn(33, generator=generator) * 10**n).to(kind) for n in range(5)]
    expected = parts[0].float()
    for part in parts[1:]:
        expected = expected + part.float()
    expected = expected / 5
    pool = memory.Pool()
    total = sums.RankSum(5, pool)
    for _ in range(2):
        for number, rank in enumerate(order):
            buffer = pool.take(33, dtype)
            buffer.view[:] = memory.view(parts[rank])
            mean = total.add(rank, buffer)
            assert (mean is not None) == (number == 4)
        assert mean is not None and torch.equal(mean, expected)
        total.clear()


def test_rules_come_from_torch_optimizers() -> None:
    parameters = [torch.zeros(2, 2, requires_grad=True), torch.zeros(2, requires_grad=True)]
    groups = [
        {"params": parameters[:1], "weight_decay": 0.1},
        {"params": parameters[1:], "weight_decay": 0.0},
    ]
    given_groups = [dict(group) for group in groups]
    sgd = torch.optim.SGD(given_groups, lr=1.0, momentum=0.9, nesterov=True)
    expected = optimizers.Rule("sgd", decays=(0.1, 0.0), momentum=0.9, nesterov=True)
    assert optimizers.rule_of(sgd) == expected
    assert optimizers.parse(expected.document()) == expected
    adamw = torch.optim.AdamW([dict(group) for group in groups], lr=1.0, betas=(0.8, 0.9))
    assert optimizers.rule_of(adamw).betas == (0.8, 0.9)
    assert optimizers.rule_of(adamw).kind == "adamw"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: torch.optim.RMSprop([p], lr=1.0), "no RMSprop; use SGD, Adam or AdamW"),
        (lambda p: torch.optim.Adam([p], lr=1.0, amsgrad=True), "no amsgrad"),
        (
            lambda p: torch.optim.SGD([{"params": [p], "momentum": 0.5}, {"params": []}], lr=1.0),
            "differ in weight_decay only",
        ),
    ],
    ids=["kind", "option", "groups"],
)
def test_optimizers_that_servers_do_not_have_are_refused(make: object, words: str) -> None:
    optimizer = make(torch.zeros(2, requires_grad=True))  # type: ignore[operator]
    with pytest.raises(failures.BadInput, match=words):
        optimizers.rule_of(optimizer)


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=6),
    servers=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_state_by_name_is_the_same_through_any_number_of_servers(
    sizes: list[int], servers: tuple[int, int]
) -> None:
    rule = optimizers.Rule("adam")
    generator = torch.Generator().manual_seed(sum(sizes))
    parameters = {
        f"p{number}": torch.randn(size, generator=generator) for number, size in enumerate(sizes)
    }
    optimizer = {}
    for name, value in parameters.items():
        optimizer[f"{name}/exp_avg"] = torch.randn(value.shape, generator=generator)
        optimizer[f"{name}/exp_avg_sq"] = torch.rand(value.shape, generator=generator)
        optimizer[f"{name}/step"] = torch.tensor(9.0)
    found = (parameters, optimizer)
    for count in servers:
        plan = layout.plan(binding.describe(parameters, {}), count, chunk_bytes=2048)
        shapes = {name: value.shape for name, value in parameters.items()}
        assembly = state.Assembly(plan, rule, shapes)
        for part in state.split(plan, rule, *found):
            assembly.add(part, fresh=False)
        found = (assembly.parameters(), assembly.optimizer())
    for before, after in zip((parameters, optimizer), found, strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_cut_through_a_parameter_is_noticed() -> None:
    plan = layout.plan([layout.Parameter("w", 1000, "float32")], 2)
    assembly = state.Assembly(plan, optimizers.Rule("sgd"), {"w": torch.Size([1000])})
    parts = [state.Part(chunk, 0, chunk.number, torch.zeros(chunk.size)) for chunk in plan.chunks]
    assembly.add(parts[0], fresh=True)
    with pytest.raises(failures.Broken, match="not consistent: w has 0 and 1 updates"):
        assembly.add(parts[1], fresh=True)


def test_bound_parameters_and_gradients_are_the_memory_that_travels() -> None:
    model = torch.nn.Linear(3, 2)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    named = dict(model.named_parameters())
    plan = layout.plan(binding.describe(named, {"bias": 1}), 1)
    bound = binding.Binding(plan, named)
    for name, value in before.items():
        assert torch.equal(named[name], value)
    bound.bind_gradients()
    model(torch.ones(1, 3)).sum().backward()
    bound.gather(None)
    sent = {}
    for chunk in plan.chunks:
        (piece,) = plan.pieces(chunk)
        sent[piece.name] = torch.frombuffer(
            bytearray(bound.gradient_bytes(chunk)), dtype=torch.float32
        )
        bound.value_bytes(chunk)[:] = memory.view(torch.full((chunk.size,), 7.0))
    assert sent["weight"].tolist() == [1.0] * 6 and sent["bias"].tolist() == [1.0] * 2
    assert set(model.weight.detach().view(-1).tolist()) == {7.0}
    # Gradients from elsewhere are copied; a missing one is zero; another shape is refused.
    bound.gather({"weight": torch.full((2, 3), 5.0)})
    flats = [memory.view(torch.full((6,), 5.0)), memory.view(torch.zeros(2))]
    assert [bytes(bound.gradient_bytes(chunk)) for chunk in plan.chunks] == [
        bytes(flat) for flat in flats
    ]
    with pytest.raises(failures.BadInput, match="weight has shape"):
        bound.gather({"weight": torch.zeros(3, 2)})
