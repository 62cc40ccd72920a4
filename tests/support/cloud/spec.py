"""The strict reading of a compiled pipeline and of the parameters that it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from cloud.errors import invalid

BY_DIGEST = re.compile(r"[a-z0-9.-]+(?::\d+)?(?:/[a-z0-9._-]+)+(?::[\w.-]+)?@sha256:[0-9a-f]{64}")
Kind = pipeline_spec_pb2.ParameterType


def read_spec(spec: Mapping[str, Any], *, digests: bool = True) -> pipeline_spec_pb2.PipelineSpec:
    """A compiled pipeline as its protobuf; its executors, which lie in a free-form field, are read as strictly.

    Raises:
        Refused: Unknown or wrong fields, no tasks, or with `digests` an image that is not named by digest.
    """
    if not spec:
        raise invalid("pipeline_spec is missing or empty.")
    made = pipeline_spec_pb2.PipelineSpec()
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    try:
        json_format.ParseDict(dict(spec), made, ignore_unknown_fields=False)
        json_format.ParseDict(dict(spec.get("deploymentSpec") or {}), deployment, ignore_unknown_fields=False)
    except json_format.ParseError as error:
        raise invalid(f"Failed to parse pipeline_spec: {error}") from error
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", made.pipeline_info.name):
        raise invalid(f"pipeline_spec.pipeline_info.name {made.pipeline_info.name!r} must match [a-z0-9][a-z0-9-]*.")
    if made.schema_version != "2.1.0":
        raise invalid(f"pipeline_spec.schema_version {made.schema_version!r}: expected 2.1.0.")
    if not made.root.dag.tasks:
        raise invalid("pipeline_spec.root.dag has no tasks.")
    _check_references(made, deployment)
    for label, executor in deployment.executors.items():
        image = executor.container.image
        if digests and executor.WhichOneof("spec") == "container" and not BY_DIGEST.fullmatch(image):
            raise invalid(f"Image {image!r} of executor {label} must be named by digest (NAME@sha256:…).")
    return made


def _check_references(spec: Any, deployment: Any) -> None:
    for owner in (spec.root, *spec.components.values()):
        for name, task in owner.dag.tasks.items():
            component = spec.components.get(task.component_ref.name)
            if component is None:
                raise invalid(f"Task {name} refers to an unknown component {task.component_ref.name!r}.")
            label = component.executor_label
            if component.WhichOneof("implementation") == "executor_label" and label not in deployment.executors:
                raise invalid(f"Component {task.component_ref.name} refers to an unknown executor {label!r}.")


def read_parameters(spec: pipeline_spec_pb2.PipelineSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a run: declared, of the declared types, none missing; whole numbers as `int`.

    `values` are Python values or protobuf ones.
    """
    declared = spec.root.input_definitions.parameters
    arguments = {}
    for name, value in values.items():
        if name not in declared:
            raise invalid(f"Runtime parameter {name!r} is not declared by the pipeline.")
        plain = json_format.MessageToDict(value) if isinstance(value, struct_pb2.Value) else value
        arguments[name] = _read(name, declared[name].parameter_type, plain)
    for name, definition in declared.items():
        if name not in arguments and not definition.HasField("default_value") and not definition.is_optional:
            raise invalid(f"Required runtime parameter {name!r} has no value.")
    return arguments


def _read(name: str, kind: int, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == Kind.NUMBER_INTEGER and number and value == int(value):
        return int(value)
    fits = {
        Kind.NUMBER_DOUBLE: number,
        Kind.STRING: isinstance(value, str),
        Kind.BOOLEAN: isinstance(value, bool),
        Kind.LIST: isinstance(value, list),
        Kind.STRUCT: isinstance(value, dict),
    }
    if not fits.get(kind, False):
        raise invalid(f"Runtime parameter {name!r} must be {Kind.ParameterTypeEnum.Name(kind)}, got {value!r}.")
    return float(value) if kind == Kind.NUMBER_DOUBLE else value
