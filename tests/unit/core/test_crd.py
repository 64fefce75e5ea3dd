"""CRDs are structural, small, and repeat the rules of the models."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from quintile.core import crd, crd_rules, crd_words, experiment, labeling_job, meta

KINDS = {kind.model.__name__: kind for kind in crd.KINDS}
FORBIDDEN = {"$ref", "$defs", "definitions", "anyOf", "oneOf", "allOf", "discriminator", "title"}
SIZE_LIMIT_BYTES = 64 * 1024


@functools.cache
def root_of(name: str) -> dict[str, Any]:
    version = crd.document(KINDS[name])["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    if "items" in schema:
        yield from nodes(schema["items"])


@pytest.mark.parametrize("name", KINDS)
def test_schema_is_structural(name: str) -> None:
    for node in nodes(root_of(name)):
        assert not FORBIDDEN & set(node)
        assert node["type"] in ("object", "array", "string", "integer", "boolean")
        assert node.get("additionalProperties") in (None, {"type": "string"})
        assert not ("properties" in node and "additionalProperties" in node)


@pytest.mark.parametrize("name", KINDS)
def test_document_is_small_enough_for_apply(name: str) -> None:
    assert len(json.dumps(crd.document(KINDS[name]))) < SIZE_LIMIT_BYTES


@pytest.mark.parametrize("name", KINDS)
def test_columns_point_at_fields(name: str) -> None:
    for column in KINDS[name].columns:
        node = root_of(name)
        if column.path.startswith(".metadata"):
            continue
        for part in column.path.strip(".").split("."):
            node = node["properties"][part]
        assert node["type"] == ("date" if column.type == "date" else column.type)


@pytest.mark.parametrize("name", KINDS)
def test_lists_and_strings_are_bounded_in_specs(name: str) -> None:
    # The API server estimates the cost of rules from these bounds and refuses CRDs without them.
    for node in nodes(root_of(name)["properties"]["spec"]):
        if node["type"] == "array":
            assert "maxItems" in node
        if node["type"] == "string" and not {"enum", "pattern", "maxLength"} & set(node):
            pytest.fail(f"unbounded string: {node}")


@pytest.mark.parametrize(
    "model", [experiment.ExperimentSpec, labeling_job.LabelingJobSpec], ids=lambda m: m.__name__
)
def test_every_immutable_field_has_a_rule(model: type[meta.Wire]) -> None:
    texts = [rule.rule for rule in crd_rules.of(model)]
    for name, info in model.model_fields.items():
        alias = info.alias or name
        covered = any(text.startswith(f"has(self.{alias}) == has(oldSelf.") for text in texts)
        assert covered == (name not in crd_rules.MUTABLE[model]), alias


def test_defaults_are_those_of_the_models() -> None:
    spec = root_of("Experiment")["properties"]["spec"]["properties"]
    assert spec["checkpoint"]["default"] == experiment.CheckpointSpec().document()
    assert spec["checkpoint"]["properties"]["everySteps"]["default"] == 500
    assert spec["run"]["properties"]["mode"]["default"] == "auto"
    assert "default" not in spec["suspend"] or spec["suspend"]["default"] is False
    assert "default" not in spec["dataset"]


def test_conditions_are_a_map_by_type() -> None:
    conditions = root_of("Trial")["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_unconvertible_models_are_refused() -> None:
    class Loose(meta.Wire):
        anything: dict[str, int] = {}

    with pytest.raises(TypeError, match="a CRD cannot hold"):
        crd.document(crd.Kind(Loose, "looses", "ls"))


@pytest.mark.parametrize("name", KINDS)
def test_every_field_is_explained(name: str) -> None:
    def silent(schema: dict[str, Any], path: str) -> Iterator[str]:
        inner = schema.get("items", schema)
        if "description" not in schema:
            yield path
        for field, child in inner.get("properties", {}).items():
            yield from silent(child, f"{path}.{field}")

    root = root_of(name)
    for part in ("spec", "status"):
        if part in root["properties"]:
            assert list(silent(root["properties"][part], part)) == []


def test_no_word_is_left_over() -> None:
    known = {field for name in KINDS for field in _fields(KINDS[name].model)}
    said = {(model, field) for model, words in crd_words.WORDS.items() for field in words}
    assert said <= known, said - known


def _fields(model: type[meta.Wire]) -> Iterator[tuple[str, str]]:
    for name, info in model.model_fields.items():
        yield model.__name__, info.alias or name
        for part in (info.annotation, *get_args(info.annotation)):
            for inner in (part, *get_args(part)):
                if isinstance(inner, type) and issubclass(inner, meta.Wire):
                    yield from _fields(inner)
