"""The strict reading of bodies for the Kubeflow Pipelines API: the client's own models say which keys there are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import kfp_server_api

from cloud.errors import invalid

PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float), "object": dict}
OUTPUT = re.compile(r"^Output\b", re.M)
OUTPUTS = {
    "V2beta1Run": ("state", "storage_state", "run_details", "error", "state_history"),
    "V2beta1RecurringRun": ("status", "error"),
}
"""What the server gives, though the client's models do not say so."""
REQUIRED = re.compile(r"^Required input\b", re.M)
NOT_REQUIRED = {"experiment_id"}
"""Documented as required, yet replaced by a default."""
WHOLE = {"max_concurrency", "interval_second"}
"""64-bit numbers: texts to the models, but numbers are taken as well."""


def check_model(body: Mapping[str, Any], model: str, where: str = "") -> None:
    """Refuses a body with unknown keys, wrong types, unknown enum values, set outputs, or without what is required."""
    kind = getattr(kfp_server_api, model)
    types = {kind.attribute_map[name]: (name, type_name) for name, type_name in kind.openapi_types.items()}
    for key, value in body.items():
        if key not in types:
            raise invalid(f'proto: (line 1): unknown field "{where}{key}"')
        name, type_name = types[key]
        if OUTPUT.search(_documented(kind, name)) or name in OUTPUTS.get(model, ()):
            raise invalid(f"Field {where}{key} is given by the server and must not be set.")
        if value is not None and not (name in WHOLE and isinstance(value, int)):
            _check_value(value, type_name, f"{where}{key}")
    for key, (name, _) in types.items():
        if REQUIRED.search(_documented(kind, name)) and not body.get(key) and name not in NOT_REQUIRED:
            raise invalid(f"Required field {where}{key} is missing or empty.")


def _documented(kind: type, name: str) -> str:
    return inspect.cleandoc(getattr(kind, name).fget.__doc__ or "")


def _check_value(value: Any, type_name: str, where: str) -> None:
    if found := re.fullmatch(r"dict\(str, (.+)\)|list\[(.+)\]", type_name):
        if not isinstance(value, dict if found[1] else list):
            raise invalid(f"Field {where} must be {type_name}.")
        if (found[1] or found[2]) == "object":
            return  # any value
        for inner in value.values() if found[1] else value:
            _check_value(inner, found[1] or found[2], where)
    elif type_name == "datetime":
        _check_time(value, where)
    elif type_name in PLAIN:
        if not isinstance(value, PLAIN[type_name]):
            raise invalid(f"Field {where} must be {type_name}, got {value!r}.")
    elif allowed := getattr(getattr(kfp_server_api, type_name), "allowable_values", None):
        if value not in allowed:
            raise invalid(f"Field {where} must be one of {', '.join(allowed)}, got {value!r}.")
    elif not isinstance(value, dict):
        raise invalid(f"Field {where} must be an object.")
    else:
        check_model(value, type_name, f"{where}.")


def _check_time(value: Any, where: str) -> None:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise invalid(f"Field {where} must be a time in RFC 3339, got {value!r}.") from error
