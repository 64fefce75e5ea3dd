"""From a trial to replicas: topology, environment, argv, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import errors, experiment, meta, plan, runplan, search, topology


def spec(**of: Any) -> experiment.ExperimentSpec:
    return experiment.ExperimentSpec.model_validate({"estimator": {"builtin": {}}, **of})


def parent(**of: Any) -> experiment.Experiment:
    return experiment.Experiment(
        metadata=meta.ObjectMeta(name="digits", namespace="team", uid="e1"), spec=spec(**of)
    )


def trial(**of: Any) -> experiment.Trial:
    (made,) = search.trials(parent(**of))
    return made.model_copy(update={"metadata": made.metadata.model_copy(update={"uid": "t1"})})


def planned(attempt: int = 2, began_with: int | None = None, **of: Any) -> runplan.RunPlan:
    made = trial(**of)
    if began_with is not None:
        fixed = made.spec.model_copy(update={"batch_workers": began_with})
        made = made.model_copy(update={"spec": fixed})
    return plan.plan_trial(
        made,
        attempt=attempt,
        api_url="http://localhost:8420",
        python="/usr/bin/python3",
        token="secret",
        hosts={},
    )


@pytest.mark.parametrize(
    ("run", "mode", "members", "procs"),
    [
        ({}, "single", 1, 1),
        ({"workers": {"replicas": 3}}, "ddp", 3, 1),
        ({"mode": "single"}, "single", 1, 1),
        ({"mode": "ddp"}, "ddp", 1, 1),
        ({"mode": "mpi", "workers": {"replicas": 3}}, "mpi", 3, 1),
        ({"mode": "horovod", "horovod": {"controller": "mpi"}}, "horovod", 1, 1),
        ({"mode": "horovod", "useGpu": True, "resources": {"gpu": 2}}, "horovod", 1, 2),
        ({"useGpu": True, "resources": {"gpu": 4}}, "ddp", 1, 4),
        ({"useGpu": False, "resources": {"gpu": 4}}, "single", 1, 1),
        ({"useGpu": True, "workers": {"replicas": 2}}, "ddp", 2, 1),
        ({"mode": "single", "useGpu": True, "resources": {"gpu": 2}}, "single", 1, 1),
    ],
)
def test_the_shape_of_a_run(run: dict[str, Any], mode: str, members: int, procs: int) -> None:
    shape = topology.resolve(spec(run=run).run)
    assert (shape.mode, shape.members) == (mode, {"worker": members})
    assert shape.roles[0].procs == procs


def test_parameter_servers_are_a_role_beside_the_workers() -> None:
    run = {"ps": {"replicas": 5}, "workers": {"replicas": 20}, "useGpu": True}
    shape = topology.resolve(spec(run=run).run)
    assert (shape.mode, shape.members) == ("ps", {"worker": 20, "ps": 5})
    assert {role.procs for role in shape.roles} == {1}
    made = planned(run=run)
    names = [replica.name for replica in made.replicas]
    assert names[:1] + names[20:] == [
        f"{made.trial}-a2-worker-0",
        *(f"{made.trial}-a2-ps-{index}" for index in range(5)),
    ]
    last = dict(made.replicas[-1].env)
    assert (last["QUINTILE_ROLE"], last["QUINTILE_INDEX"]) == ("ps", "4")
    assert last["QUINTILE_MODE"] == "ps"
    assert json.loads(last["QUINTILE_MEMBERS"]) == {"ps": 5, "worker": 20}


@pytest.mark.parametrize(
    ("run", "field"),
    [
        (
            {"mode": "ps", "ps": {"replicas": 1}, "workers": {"replicas": 2, "min": 1}},
            "spec.run.workers.min",
        ),
        ({"mode": "mpi", "workers": {"replicas": 2, "max": 4}}, "spec.run.workers.max"),
        ({"mode": "single", "workers": {"max": 4}}, "spec.run.workers.max"),
        (
            {
                "mode": "horovod",
                "horovod": {"controller": "mpi"},
                "workers": {"replicas": 2, "max": 4},
            },
            "spec.run.workers.max",
        ),
        ({"resources": {"cpu": "much"}}, "spec.run.resources.cpu"),
        ({"resources": {"memory": "2gi"}}, "spec.run.resources.memory"),
    ],
)
def test_what_this_release_cannot_run_is_refused_with_its_field_and_a_way_out(
    run: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        plan.check(spec(run=run))
    assert caught.value.field == field
    assert caught.value.hint
    with pytest.raises(errors.InvalidSpec):
        planned(run=run)


def test_an_elastic_script_that_keeps_its_state_by_itself_is_refused_with_a_way_out() -> None:
    script = {"script": {"bundle": "a" * 64, "entry": "train.py"}}
    run = {"workers": {"replicas": 2, "min": 1}}
    with pytest.raises(errors.InvalidSpec, match=r"train\.py is not known to keep") as caught:
        plan.check(spec(estimator=script, run=run))
    assert caught.value.field == "spec.run.workers.min"
    assert "hvd.elastic" in caught.value.hint
    with pytest.raises(errors.InvalidSpec):
        planned(estimator=script, run=run)


def test_a_script_whose_state_the_platform_keeps_may_be_elastic() -> None:
    script = {"script": {"bundle": "a" * 64, "entry": "train.py", "elastic": True}}
    run = {"mode": "horovod", "workers": {"replicas": 2, "min": 1}}
    assert planned(estimator=script, run=run).elastic


def test_an_elastic_run_is_ddp_and_tells_its_agents_how_few_may_be_left() -> None:
    made = planned(run={"workers": {"replicas": 1, "max": 4}})
    assert (made.mode, made.elastic) == ("ddp", True)
    assert dict(made.replicas[0].env)["QUINTILE_LEAST"] == "1"
    fixed = planned(run={"workers": {"replicas": 2}})
    assert not fixed.elastic
    assert "QUINTILE_LEAST" not in dict(fixed.replicas[0].env)


def test_the_size_of_an_elastic_run_changes_no_program() -> None:
    programs = set()
    for replicas in (2, 4, 3):
        run = {"workers": {"replicas": replicas, "min": 1, "max": 4}}
        made = planned(run=run, began_with=2)
        assert len(made.replicas) == replicas
        programs |= {dict(replica.env)["QUINTILE_PROGRAM"] for replica in made.replicas}
    [program] = programs
    assert json.loads(program)["run"]["workers"]["replicas"] == 2


def test_a_replica_gets_what_its_agent_needs_and_no_token() -> None:
    made = planned(run={"workers": {"replicas": 2}}, failure={"maxInPlaceRestarts": 4})
    assert [replica.name for replica in made.replicas] == [
        f"{made.trial}-a2-worker-0",
        f"{made.trial}-a2-worker-1",
    ]
    first, second = (dict(replica.env) for replica in made.replicas)
    differing = {name for name in first if first[name] != second[name]}
    assert differing == {"QUINTILE_INDEX"}
    assert first["QUINTILE_TRIAL_UID"] == "t1"
    assert first["QUINTILE_ATTEMPT"] == "2"
    assert first["QUINTILE_MODE"] == "ddp"
    assert first["QUINTILE_MAX_IN_PLACE"] == "4"
    assert first["QUINTILE_GRACE_S"] == "60"
    assert json.loads(first["QUINTILE_MEMBERS"]) == {"worker": 2}
    assert made.replicas[0].argv == ("/usr/bin/python3", "-m", "quintile_trainer.agent")
    assert made.token == "secret"
    assert "secret" not in str(made.replicas)


def test_the_program_holds_everything_that_the_ranks_need() -> None:
    made = planned(
        dataset={"name": "digits", "version": 3},
        hparams=[{"name": "lr", "value": "0.1"}],
        estimator={"builtin": {}, "env": [{"name": "MINE", "value": "x"}]},
    )
    program = json.loads(dict(made.replicas[0].env)["QUINTILE_PROGRAM"])
    assert program["dataset"]["version"] == 3
    assert program["hparams"] == [{"name": "lr", "value": "0.1"}]
    assert program["estimator"]["env"] == [{"name": "MINE", "value": "x"}]
    assert (program["experiment"], program["namespace"]) == ("digits", "team")
    assert "MINE" not in dict(made.replicas[0].env)


def test_hosts_and_limits_reach_the_replicas() -> None:
    wanted = trial(run={"resources": {"cpu": "500m", "memory": "2Gi"}})
    draft = plan.plan_trial(wanted, attempt=1, api_url="u", python="p", token="", hosts={})
    name = draft.replicas[0].name
    made = plan.plan_trial(wanted, attempt=1, api_url="u", python="p", token="", hosts={name: "h"})
    replica = made.replicas[0]
    assert dict(replica.env)["QUINTILE_HOST"] == "h"
    assert (replica.cpu_millis, replica.memory_bytes, replica.gpus) == (500, 2**31, 0)


def test_a_printed_plan_is_json_without_the_token() -> None:
    shown = plan.printable(planned())
    assert "token" not in shown
    assert json.loads(json.dumps(shown)) == shown
    assert shown["replicas"][0]["env"]["QUINTILE_ROLE"] == "worker"


@given(st.integers(1, 16), st.integers(1, 9))
def test_equal_inputs_give_equal_plans(workers: int, attempt: int) -> None:
    run = {"workers": {"replicas": workers}}
    made = planned(attempt, run=run)
    assert made == planned(attempt, run=run)
    assert len({replica.name for replica in made.replicas}) == workers
    assert all(replica.env == tuple(sorted(replica.env)) for replica in made.replicas)


def test_an_experiment_without_a_search_has_one_trial_that_it_owns() -> None:
    (made,) = search.trials(parent(hparams=[{"name": "lr", "value": "0.1"}], suspend=True))
    assert made.spec.number == 0
    assert made.spec.hparams[0].value == "0.1"
    assert made.spec.template.suspend
    assert made.metadata.owner_references[0].uid == "e1"
    assert made.metadata.namespace == "team"
    assert made.metadata.labels == {search.EXPERIMENT_LABEL: "digits"}
    assert (made,) == search.trials(parent(hparams=made.spec.hparams, suspend=True))
