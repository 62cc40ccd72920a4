"""Test queries through the exported query tower and the index; the gate's decision."""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output


def evaluate_recall(
    name: str,
    prepared: Input[Dataset],
    profile: Input[Dataset],
    candidate_tower: Input[Model],
    query_tower: Input[Model],
    embeddings: Input[Dataset],
    index: Input[Artifact],
    evaluation_settings: str,
    split: str,
    registry: str,
    champion: str,
    code: str,
    evaluation: Output[Artifact],
    figures: Output[Metrics],
    before_refit: Input[Artifact] = None,
) -> NamedTuple("Outputs", [("Output", str), ("version", str)]):  # type: ignore[valid-type]
    """Measures the version against baselines and the champion, and asks the gate.

    Args:
        name: The configuration's name, which names the registry too.
        prepared: A `prepared_data` artefact, for its test queries and the baselines.
        profile: A `data_profile` artefact, to be compared with the champion's.
        candidate_tower: A `candidate_tower` artefact.
        query_tower: A `query_tower` artefact.
        embeddings: A `candidate_embeddings` artefact, for exact search.
        index: An `index` artefact.
        evaluation_settings: The `evaluation` section as canonical JSON.
        split: Whose queries, `validation` or `test`; on those of validation nothing is decided.
        registry: The registry's root folder.
        champion: The champion's version id, or an empty text.
        code: The fingerprint of the code that this step uses.
        evaluation: An `evaluation` artefact.
        figures: Its main figures, which the console of the pipelines shows.
        before_refit: A `before_refit` artefact, where there was a refit.

    Returns:
        Output: The decision: `promote`, `refuse`, `keep` (the version is the champion already) or `try` (on
            validation queries). It has this name since kfp.local resolves no other output in a condition. version: The
            version's id.
    """
    import json
    from pathlib import Path

    from components.runtime import running
    from two_tower import EvaluationSettings, Registry, evaluate, parse_section, version_id
    from two_tower.evaluation import headlines

    with running("evaluate_recall") as step:
        tower, built = step.read(query_tower), step.read(index)
        version = version_id(tower, step.read(candidate_tower), built)
        measured = evaluate(
            step.read(prepared),
            tower,
            built,
            step.read(embeddings),
            step.write(evaluation),
            evaluation=parse_section(EvaluationSettings, evaluation_settings),
            version=version,
            profile=step.read(profile),
            champion=Registry(registry, name).version(champion).folder if champion else None,
            before_refit=step.read(before_refit) if before_refit else None,
            split=split,  # type: ignore[arg-type]
        )
        found = headlines(measured)
        for figure, value in found.items():
            figures.log_metric(figure, value)
        # The cache takes an artefact without a file for one that is gone.
        Path(step.write(figures)).write_text(json.dumps(found, indent=1), encoding="utf-8")
        return measured.gate.decision, version
