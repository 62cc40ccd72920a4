"""The one table of the DAG's steps: their names, images, fingerprints, caching, and when they run.

The configuration takes their names from here, and `pipelines` all else: the DAG, fingerprints, images, costs, single
steps.  A new step is a row here, its folder in `components/` and its place in `pipelines/dag/pipeline.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Image = Literal["prep", "train", "embed", "index"]
"""A target of the Dockerfile, and an extra of the project."""
IMAGES: tuple[Image, ...] = get_args(Image)

When = Literal["always", "refit", "promote", "refuse", "end"]
"""In every run; only with `training.refit`; after that decision of the gate; at the end, whatever happened."""


@dataclass(frozen=True)
class Step:
    """What is known of a step without its code, which is in `components/NAME`."""

    name: str
    image: Image
    """Where it runs."""
    sections: tuple[str, ...] = ()
    """The sections of the configuration whose plug-ins it runs; they are part of its fingerprint."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The pipeline's parameter of an input that is called otherwise, since an artefact has its name."""
    cached: bool = True
    """Whether an earlier run may answer; such a step has an input `code`, its fingerprint."""
    when: When = "always"
    formerly: tuple[str, ...] = ()
    """What runs of earlier releases call it."""
    outputs_formerly: Mapping[str, str] = field(default_factory=dict)
    """What outputs are called now, by what runs of earlier releases call them."""


_INDEX = {"index_settings": "index"}
_EVALUATION = {"evaluation_settings": "evaluation"}

TABLE: Mapping[str, Step] = {
    step.name: step
    for step in (
        Step("resolve_inputs", "prep", cached=False, outputs_formerly={"news": "new_data"}),
        Step("prepare_data", "prep", ("data", "beam")),
        Step("check_prepared", "index", ("evaluation",), _INDEX | _EVALUATION),
        Step("train_towers", "train", ("data", "model", "training")),
        Step("measure_before_refit", "train", ("data", "model"), when="refit"),
        Step("export_candidate_tower", "train", ("data", "model")),
        Step("embed_candidates", "embed", ("data", "embedding", "beam"), {"beam": "embedding_beam"}),
        Step("build_index", "index", ("data", "index"), _INDEX),
        Step("export_query_tower", "train", ("data", "model")),
        Step("evaluate_recall", "index", ("data", "evaluation"), _EVALUATION),
        Step("promote", "index", cached=False, when="promote"),
        Step("keep_refused", "index", cached=False, when="refuse"),
        Step("write_report", "index", cached=False),
        Step("report_failure", "index", cached=False, when="end", formerly=("leave_page",)),
    )
}
"""The steps by name, in an order in which they can run."""

STEPS = tuple(step.name for step in TABLE.values() if step.when != "end")
"""The names of the DAG's own steps."""
EXIT_HANDLER = next(step.name for step in TABLE.values() if step.when == "end")
"""The step beside them that runs at the end of every run."""

_NOW = {old: step.name for step in TABLE.values() for old in step.formerly}


def present_name(name: str) -> str:
    """What a step is called now."""
    return _NOW.get(name, name)
