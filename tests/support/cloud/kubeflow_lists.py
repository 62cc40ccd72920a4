"""Lists of the Kubeflow Pipelines API: its JSON filters, order and pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import kfp_server_api

from cloud.errors import invalid
from cloud.filters import page
from cloud.http import Request
from cloud.kubeflow_models import check_model

VALUES = ("string_value", "timestamp_value", "int_value", "long_value")


def listed(request: Request, key: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The reply to a list: the rows that match the filter, sorted, one page of them."""
    params = request.params
    predicates = _predicates(params.get("filter", ""))
    rows = [row for row in rows if all(_holds(row, predicate) for predicate in predicates)]
    field, _, direction = params.get("sort_by", "").partition(" ")
    field = field or "created_at"
    rows = sorted(rows, key=lambda row: str(row.get(field, "")), reverse=direction == "desc")
    shown, token = page(rows, int(params.get("page_size") or 0), params.get("page_token", ""), default=20)
    answer: dict[str, Any] = {"total_size": len(rows)}
    if shown:
        answer[key] = shown
    if token:
        answer["next_page_token"] = token
    return answer


def _predicates(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        found = json.loads(text)
    except ValueError as error:
        raise invalid(f"Invalid filter {text!r}: {error}") from error
    snake = {"stringValue": "string_value", "timestampValue": "timestamp_value", "intValue": "int_value"}
    predicates = [{snake.get(key, key): value for key, value in entry.items()} for entry in found["predicates"]]
    for predicate in predicates:
        predicate["operation"] = _operation(predicate.get("operation"))
        check_model(predicate, "V2beta1Predicate", "filter.")
    return predicates


def _operation(given: Any) -> Any:
    """The client sends numbers, people write names."""
    names = kfp_server_api.V2beta1PredicateOperation.allowable_values
    return names[given] if isinstance(given, int) and 0 <= given < len(names) else given


def _holds(row: Mapping[str, Any], predicate: Mapping[str, Any]) -> bool:
    found = str(row.get(predicate["key"], ""))
    wanted = next((str(predicate[name]) for name in VALUES if name in predicate), None)
    if wanted is None:
        raise invalid("filter: a predicate needs a value")
    tests = {
        "EQUALS": found == wanted,
        "NOT_EQUALS": found != wanted,
        "GREATER_THAN": found > wanted,
        "GREATER_THAN_EQUALS": found >= wanted,
        "LESS_THAN": found < wanted,
        "LESS_THAN_EQUALS": found <= wanted,
        "IS_SUBSTRING": wanted in found,
    }
    if predicate["operation"] not in tests:
        raise invalid(f"filter: operation {predicate['operation']} is not part of this stand-in")
    return tests[predicate["operation"]]
