"""A version that passed the gate becomes the champion."""

from kfp.dsl import Artifact, Dataset, Input, Model


def promote(
    name: str,
    prepared: Input[Dataset],
    candidate_tower: Input[Model],
    query_tower: Input[Model],
    index: Input[Artifact],
    evaluation: Input[Artifact],
    trained: Input[Model],
    config: str,
    registry: str,
    sources: str,
    run_id: str,
) -> str:
    """Stores towers, index, candidate table, metrics and configuration as one version and switches the alias to it.

    Then goes what the configuration's `retention` does not keep.

    Args:
        name: The configuration's name, which names the registry too.
        prepared: A `prepared_data` artefact, for its candidate table.
        candidate_tower: A `candidate_tower` artefact.
        query_tower: A `query_tower` artefact.
        index: An `index` artefact.
        evaluation: An `evaluation` artefact.
        trained: A `trained_towers` artefact, kept for the next training.
        config: The whole configuration as canonical JSON.
        registry: The registry's root folder.
        sources: The input files, from `resolve_inputs`.
        run_id: The run's id.

    Returns:
        The version's id.
    """
    from components.keep_version import keep_version

    return keep_version(
        "promote",
        name=name,
        prepared=prepared,
        candidate_tower=candidate_tower,
        query_tower=query_tower,
        index=index,
        evaluation=evaluation,
        trained=trained,
        config=config,
        registry=registry,
        sources=sources,
        run_id=run_id,
    )
