"""What of the last steps' work the prepared data will not bear, found before anything is trained."""

from __future__ import annotations

import pyarrow.compute as pc

from two_tower import config
from two_tower.artifacts import ArtifactReader, Place, open_artifact
from two_tower.errors import ConfigError
from two_tower.evaluation.popularity import ItemPopularity
from two_tower.evaluation.queries import Queries, Split
from two_tower.evaluation.slices import Slices
from two_tower.index import require_memory
from two_tower.retrievers import data_sizes


def check_prepared(
    prepared: Place,
    *,
    model: config.ModelSettings,
    index: config.IndexSettings,
    evaluation: config.EvaluationSettings,
    split: Split = "test",
) -> dict[str, str]:
    """The baselines that the evaluation will have to leave out, with the reason, by name.

    What would end the run after the training, or has a blocking check of the gate fail for want of what it asks for,
    is refused here.

    Args:
        prepared: The `prepared_data` artefact.
        model: The configuration's section; so wide will the vectors be.
        index: The section `index`.
        evaluation: The section `evaluation`.
        split: Whose queries will measure the version.

    Raises:
        ArtifactError: The artefact is incomplete or damaged.
        ConfigError: A blocking check asks for a baseline that does not fit these data, or for a slice that they lack;
            or the candidates do not fit into the index's memory; or a column of `evaluation.slices` has no categories.
        NoQueries: The split's window holds no query.
    """
    data = open_artifact(prepared, "prepared_data")
    items = data.table("items.parquet", ["train_count", "available"])
    require_memory(pc.sum(items["available"]).as_py() or 0, model.dim, index=index)
    queries = Queries.load(data, exclude_seen=evaluation.exclude_seen, repeats=evaluation.repeats, split=split)
    popularity = ItemPopularity(items["train_count"].to_numpy())
    left_out = _left_out(data, evaluation, split=split)
    _refuse_checks_of(left_out, evaluation)
    _refuse_checks_on_others_than(list(Slices(data, queries, popularity, columns=evaluation.slices).about), evaluation)
    return left_out


def _left_out(data: ArtifactReader, evaluation: config.EvaluationSettings, *, split: Split) -> dict[str, str]:
    if not evaluation.baselines:
        return {}
    sizes = data_sizes(data, split=split)
    reasons = {baseline.name: baseline.refuses(sizes) for baseline in evaluation.baselines}
    return {name: why for name, why in reasons.items() if why}


def _refuse_checks_of(left_out: dict[str, str], evaluation: config.EvaluationSettings) -> None:
    """Refuses blocking checks of baselines that do not fit."""
    for number, check in enumerate(evaluation.checks):
        name = getattr(check, "baseline", None) or getattr(check, "system", None)
        if check.blocking and name in left_out:
            raise ConfigError(
                f"evaluation.gate.{number}: {check.name} blocks promotion, but the baseline {name} does not fit these "
                f"data: {left_out[name]}; or take {name} out of evaluation.baselines and of the gate, or make the "
                f"check advisory (evaluation.gate.{number}.blocking: false)"
            )


def _refuse_checks_on_others_than(slices: list[str], evaluation: config.EvaluationSettings) -> None:
    """Refuses blocking checks on slices that are not there."""
    for number, check in enumerate(evaluation.checks):
        name = getattr(check, "slice", None)
        if check.blocking and name is not None and name not in slices:
            raise ConfigError(
                f"evaluation.gate.{number}: {check.name} blocks promotion, but the test window has no slice {name}; "
                f"there are: {', '.join(slices)}; name one of them, or make the check advisory "
                f"(evaluation.gate.{number}.blocking: false)"
            )
