"""The models refuse every spec of the table that the API server refuses, by name of the field."""

from __future__ import annotations

import pytest

from quintile.adapters import parsing
from quintile.core import admin_kinds, errors, experiment, labeling_job, meta
from quintile.testing import invalid_changes, invalid_specs

MODELS: dict[str, type[meta.Wire]] = {
    "Experiment": experiment.Experiment,
    "Trial": experiment.Trial,
    "LabelingJob": labeling_job.LabelingJob,
    "Queue": admin_kinds.Queue,
    "ClusterRuntime": admin_kinds.ClusterRuntime,
}


STRICT = [case for case in invalid_specs.CREATES if not case.loose]


@pytest.mark.parametrize("case", STRICT, ids=lambda case: case.name)
def test_a_spec_that_can_never_work_names_its_field(case: invalid_specs.Create) -> None:
    document = invalid_specs.document(case.kind, case.spec)
    with pytest.raises(errors.InvalidSpec) as caught:
        parsing.parse_as(MODELS[case.kind], document, what="It")
    assert case.field in f"{caught.value.field} {caught.value}"


@pytest.mark.parametrize("kind", invalid_specs.BASES)
def test_what_the_table_begins_with_is_good(kind: str) -> None:
    document = invalid_specs.document(kind, invalid_specs.BASES[kind])
    parsing.parse_as(MODELS[kind], document, what="It")


@pytest.mark.parametrize("case", invalid_changes.UPDATES, ids=lambda case: case.name)
def test_both_ends_of_a_change_are_good(case: invalid_changes.Update) -> None:
    for spec in (case.before, case.after):
        if case.field == "labels" and len(spec["labels"]) < 2:
            continue
        parsing.parse_as(MODELS[case.kind], invalid_specs.document(case.kind, spec), what="It")


@pytest.mark.parametrize("kind", invalid_changes.COVERED)
def test_every_immutable_field_is_in_the_table(kind: str) -> None:
    missing = invalid_changes.IMMUTABLE[kind] - invalid_changes.COVERED[kind]
    assert missing <= {"task", "model"}, missing  # one value each
