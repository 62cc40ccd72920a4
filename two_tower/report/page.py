"""The pages: their sections put together, set and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from two_tower.artifacts import Place, open_artifact, replace_file
from two_tower.metrics_file import FILE, Evaluation
from two_tower.report import values
from two_tower.report.data import columns_section, data_section, drift_section
from two_tower.report.examples import display_columns, examples_section
from two_tower.report.loss import index_section, loss_section
from two_tower.report.popularity import long_tail_section, popularity_section
from two_tower.report.ranker import ranker_section, users_section
from two_tower.report.recall import comparisons_section, discovery_section, recall_section
from two_tower.report.run import artefact_row, run_section, training_section, was_promoted
from two_tower.report.slices import slices_section
from two_tower.report.space import space_section
from two_tower.report.verdict import verdict_section

_LOG_CHARACTERS = 100_000
_TEMPLATES = Path(__file__).parent / "templates"
_FILTERS = ("breakable", "clip", "count", "figure", "number", "seconds", "share", "signed", "size")
"""The functions of `values` that the templates call."""


def write_report(
    out_html: Place,
    *,
    prepared: Place,
    trained: Place,
    evaluation: Place,
    index: Place | None = None,
    config: Mapping[str, Any],
    title: str | None = None,
    new_data: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Writes the run's report, one self-contained HTML file, to `out_html`.

    Args:
        out_html: The file; it is replaced atomically.
        prepared: The `prepared_data` artefact.
        trained: The `trained_towers` artefact.
        evaluation: The `evaluation` artefact.
        index: The `index` artefact, where there is one.
        config: The whole configuration, shown as YAML.
        title: The heading; the configuration's name if not given.
        new_data: What the champion has not seen of the logs, as `two_tower.data.new_data_since` gives it.
        run: What ran: `run_id`, `started` (text), `code` (commit or fingerprint), `steps` (a list of `name`, `state`:
            ran, cached, failed, skipped, running or waiting, and `seconds`) and `versions` (package to version); any
            may be missing, and more is ignored.

    Raises:
        ArtifactError: An artefact is missing, damaged or of another kind.
    """
    data = open_artifact(prepared, "prepared_data")
    artefacts = {
        "prepared_data": data,
        "trained_towers": open_artifact(trained, "trained_towers"),
        "evaluation": open_artifact(evaluation, "evaluation"),
    }
    if index is not None:
        artefacts["index"] = open_artifact(index, "index")
    measured = artefacts["evaluation"]
    found = Evaluation.read(measured.path(FILE))
    display = display_columns(data)
    _write(
        "report.html.j2",
        out_html,
        title=title or config.get("name", "Report"),
        description=config.get("description"),
        **_sections(found),
        built=index_section(found, artefacts["index"]) if "index" in artefacts else None,
        tail=long_tail_section(data),
        space=space_section(measured, display=display),
        examples=examples_section(measured, display=display),
        data=data_section(data, days=found.days, new_data=new_data),
        columns=columns_section(measured),
        training=training_section(artefacts["trained_towers"].json("history.json")),
        artefacts=[artefact_row(name, reader) for name, reader in artefacts.items()],
        config=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100),
        run=run_section(run),
    )


def _sections(evaluation: Evaluation) -> dict[str, object]:
    """The sections that metrics.json alone tells of, by the names that the templates have for them."""
    return {
        "verdict": verdict_section(evaluation),
        "slices": slices_section(evaluation),
        "recall": recall_section(evaluation),
        "loss": loss_section(evaluation),
        "comparisons": comparisons_section(evaluation),
        "discovery": discovery_section(evaluation),
        "ranker": ranker_section(evaluation),
        "users": users_section(evaluation),
        "popularity": popularity_section(evaluation),
        "drift": drift_section(evaluation.drift),
    }


def write_failure_page(
    out_html: Place,
    *,
    title: str,
    run_id: str,
    failed_step: str | None,
    cause: str = "",
    error_tail: str = "",
    run: Mapping[str, Any] | None = None,
) -> None:
    """Writes a page for a run that did not finish: why, the failed step, how to go on, and the end of its log.

    Args:
        out_html: The file; it is replaced atomically.
        title: The heading, such as the configuration's name.
        run_id: The run's id.
        failed_step: The step's name, None where it is not known.
        cause: What ended it, in the step's or the service's own words; empty where that is not known.
        error_tail: The last lines of the step's log; only its end is shown if it is long.
        run: As for `write_report`.
    """
    _write(
        "failure.html.j2",
        out_html,
        title=title,
        run_id=run_id,
        failed_step=failed_step,
        cause=cause,
        error_tail=error_tail.rstrip()[-_LOG_CHARACTERS:],
        promoted=was_promoted(run),
        run=run_section({**(run or {}), "run_id": run_id}),
    )


def _write(template: str, out_html: Place, **content: Any) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(values, name) for name in _FILTERS})
    page = environment.get_template(template).render(content)
    Path(out_html).parent.mkdir(parents=True, exist_ok=True)
    replace_file(Path(out_html), page.encode("utf-8", errors="replace"))
