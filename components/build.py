"""From a step's plain function to a KFP component with an image."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

IMAGE_OF = {
    "resolve_inputs": "prep",
    "prepare_data": "prep",
    "check_prepared": "index",
    "train_towers": "train",
    "measure_before_refit": "train",
    "export_candidate_tower": "train",
    "embed_candidates": "embed",
    "build_index": "index",
    "export_query_tower": "train",
    "evaluate_recall": "index",
    "promote": "index",
    "keep_refused": "index",
    "write_report": "index",
    "report_failure": "index",
}
"""The image target (an extra of pyproject.toml) of every step; `report_failure` is the exit handler."""

LOCAL_IMAGE = "python:3.11"
"""Stands in the compiled file of a local run; the subprocess runner starts no container."""


def body_of(step: str) -> Callable[..., Any]:
    """The plain function of a step."""
    function: Callable[..., Any] = getattr(importlib.import_module(f"components.{step}.component"), step)
    return function


def component_of(step: str, *, image: str = LOCAL_IMAGE) -> Any:
    """The KFP component of a step, to be run in `image`."""
    from kfp import dsl

    return dsl.component(body_of(step), base_image=image, install_kfp_package=False)
