"""Wire models to CustomResourceDefinitions. Pure; written to disk by ``quintile.cli.crds``.

Structural schemas forbid references, unions and ``additionalProperties: false``; the house rule of
``core.meta`` keeps the models inside what can be converted, and anything else raises here. Rules
across fields come from ``core.crd_rules``, beside the validators that they repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args, get_origin

import pydantic
from pydantic.alias_generators import to_camel

from quintile.core import admin_kinds, crd_rules, crd_words, experiment, labeling_job, meta

Schema = dict[str, Any]
_KEPT: Final = ("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum")
_LIST_KEYS: Final = {
    "Condition": "type",
    "Parameter": "name",
    "EnvVar": "name",
    "Quota": "resource",
    "Priority": "name",
    "SecretRef": "name",
    "Label": "name",
    "Annotation": "name",
    "Volume": "name",
    "VolumeMount": "mountPath",
    "PullSecret": "name",
}
_SETS: Final = {"LabelingJobSpec": "labels"}
"""Lists of names that are unique, too long for a rule to say so. They keep their order."""


@dataclass(frozen=True)
class Column:
    """One column of ``kubectl get``; priority 1 shows with ``-o wide`` only."""

    name: str
    type: str
    path: str
    priority: int = 0


@dataclass(frozen=True)
class Kind:
    """What a CRD says beyond its schema; resources of ``scope`` Cluster belong to no namespace.

    ``scale``: where the wanted and the current number lie, for ``kubectl scale``.
    """

    model: type[meta.Wire]
    plural: str
    short: str
    columns: tuple[Column, ...] = field(default=())
    scope: Literal["Namespaced", "Cluster"] = "Namespaced"
    scale: tuple[str, str] | None = None


REVISION_KEY: Final = "quintile.dev/crd-revision"
REVISION: Final = 2
"""Rises with every field that a reconciler of this release writes and an older CRD lacks."""

PHASE = Column("Phase", "string", ".status.phase")
REASON = Column("Reason", "string", ".status.reason", priority=1)
AGE = Column("Age", "date", ".metadata.creationTimestamp")

KINDS: Final = (
    Kind(
        experiment.Experiment,
        "experiments",
        "exp",
        (
            PHASE,
            Column("Progress", "integer", ".status.progress.percent"),
            Column("Workers", "integer", ".spec.run.workers.replicas"),
            Column("Restarts", "integer", ".status.restarts"),
            Column("Members", "integer", ".status.workers", priority=1),
            REASON,
            AGE,
        ),
        scale=(".spec.run.workers.replicas", ".status.workers"),
    ),
    Kind(
        experiment.Trial,
        "trials",
        "trl",
        (
            PHASE,
            Column("Progress", "integer", ".status.progress.percent"),
            Column("Attempt", "integer", ".status.attempt"),
            Column("Generation", "integer", ".status.generation"),
            Column("Restarts", "integer", ".status.restarts"),
            Column("Members", "integer", ".status.workers", priority=1),
            REASON,
            AGE,
        ),
    ),
    Kind(
        labeling_job.LabelingJob,
        "labelingjobs",
        "lbj",
        (
            PHASE,
            Column("Round", "integer", ".status.round"),
            Column("Human", "string", ".status.humanFraction"),
            Column("Coverage", "string", ".status.coverage"),
            Column("Error", "string", ".status.certifiedError"),
            Column("Left", "integer", ".status.labelsLeft"),
            REASON,
            AGE,
        ),
    ),
    Kind(
        admin_kinds.Queue,
        "queues",
        "qtq",
        (
            Column("Admitted", "integer", ".status.admitted"),
            Column("Pending", "integer", ".status.pending"),
            Column("Preemption", "string", ".spec.preemption", priority=1),
            AGE,
        ),
        scope="Cluster",
    ),
    Kind(
        admin_kinds.ClusterRuntime,
        "clusterruntimes",
        "qtr",
        (Column("Image", "string", ".spec.image"), AGE),
        scope="Cluster",
    ),
)


def documents() -> dict[str, meta.Document]:
    """Return every CRD by file name."""
    return {f"{kind.plural}.yaml": document(kind) for kind in KINDS}


def document(kind: Kind) -> meta.Document:
    """Return the CRD of one kind."""
    name = kind.model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{meta.GROUP}",
            "annotations": {"helm.sh/resource-policy": "keep", REVISION_KEY: str(REVISION)},
        },
        "spec": {
            "group": meta.GROUP,
            "scope": kind.scope,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [kind.short],
                "categories": ["quintile"],
            },
            "versions": [
                {
                    "name": meta.API_VERSION.partition("/")[2],
                    "served": True,
                    "storage": True,
                    "subresources": _subresources(kind),
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _root(kind.model)},
                }
            ],
        },
    }


def _subresources(kind: Kind) -> Schema:
    found: Schema = {"status": {}} if "status" in kind.model.model_fields else {}
    if kind.scale is not None:
        wanted, current = kind.scale
        found["scale"] = {"specReplicasPath": wanted, "statusReplicasPath": current}
    return found


def _column(column: Column) -> Schema:
    shown: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        shown["priority"] = column.priority
    return shown


def _root(model: type[meta.Wire]) -> Schema:
    schema = _model(model)
    # The API server owns these three; a schema of ours could only contradict it.
    schema["properties"]["apiVersion"] = {"type": "string"}
    schema["properties"]["kind"] = {"type": "string"}
    schema["properties"]["metadata"] = {"type": "object"}
    schema["required"] = ["spec"]
    return schema


def _model(model: type[meta.Wire]) -> Schema:
    raw = model.model_json_schema(by_alias=True)
    definitions: Mapping[str, Schema] = raw.get("$defs", {})
    properties: dict[str, Schema] = {}
    for name, info in model.model_fields.items():
        alias = info.alias or to_camel(name)
        properties[alias] = _field(info, raw["properties"][alias], definitions)
        words = crd_words.WORDS.get(model.__name__, {}).get(alias)
        if words:
            properties[alias]["description"] = words
        if _SETS.get(model.__name__) == name:
            properties[alias]["x-kubernetes-list-type"] = "set"
    schema: Schema = {"type": "object", "properties": properties}
    if model.__doc__:
        schema["description"] = _plain(model.__doc__)
    if raw.get("required"):
        schema["required"] = list(raw["required"])
    rules = crd_rules.of(model)
    if rules:
        schema["x-kubernetes-validations"] = [rule.document() for rule in rules]
    return schema


def _plain(docstring: str) -> str:
    """Return a docstring as text: no marks, no line breaks."""
    return " ".join(docstring.replace("``", "").split())


def _field(
    info: pydantic.fields.FieldInfo, raw: Schema, definitions: Mapping[str, Schema]
) -> Schema:
    schema = _type(info.annotation, raw, definitions)
    default = info.get_default(call_default_factory=True) if not info.is_required() else None
    if isinstance(default, meta.Wire):
        # Whole, not {}: the API server checks rules on a default before it fills in nested ones.
        schema["default"] = default.document()
    elif isinstance(default, str | int) and default != "":
        schema["default"] = default
    return schema


def _type(annotation: Any, raw: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema of one value; ``raw`` is what pydantic says of it."""
    choices = [part for part in get_args(annotation) if part is not type(None)]
    if type(None) in get_args(annotation):
        inner = next(part for part in raw["anyOf"] if part.get("type") != "null")
        return _type(choices[0], inner, definitions)
    if isinstance(annotation, type) and issubclass(annotation, meta.Wire):
        return _model(annotation)
    if "$ref" in raw:
        raise TypeError(f"a CRD cannot hold {annotation}; use the types that core.meta allows")
    if get_origin(annotation) is list:
        return _list(choices[0], raw, definitions)
    if raw.get("type") == "object" and raw.get("additionalProperties") == {"type": "string"}:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if raw.get("type") not in ("string", "integer", "boolean"):
        raise TypeError(f"a CRD cannot hold {raw}; use the types that core.meta allows")
    schema: Schema = {name: raw[name] for name in _KEPT if name in raw}
    if "const" in raw:
        schema["enum"] = [raw["const"]]
    if schema["type"] == "integer":
        schema["format"] = "int64"
    return schema


def _list(item: Any, raw: Schema, definitions: Mapping[str, Schema]) -> Schema:
    if get_args(item) and hasattr(item, "__metadata__"):
        item = get_args(item)[0]
    schema: Schema = {"type": "array", "items": _type(item, raw["items"], definitions)}
    if "description" in schema["items"]:
        # On the list alone: kubectl explain says both, one after the other.
        schema["description"] = schema["items"].pop("description")
    for name in ("minItems", "maxItems"):
        if name in raw:
            schema[name] = raw[name]
    key = _LIST_KEYS.get(getattr(item, "__name__", ""))
    if key:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        _require(schema["items"], key)
    return schema


def _require(schema: Schema, name: str) -> None:
    schema.setdefault("required", [])
    if name not in schema["required"]:
        schema["required"].append(name)
