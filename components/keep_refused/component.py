"""A version that the gate refused is kept for a look."""

from kfp.dsl import Artifact, Dataset, Input, Model


def keep_refused(
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
    """Stores towers, index, candidate table, metrics and configuration as one version, marked as refused.

    The champion stays. Then goes what the configuration's `retention` does not keep.

    Args:
        name: The configuration's name, which names the registry too.
        prepared: A `prepared_data` artefact, for its candidate table.
        candidate_tower: A `candidate_tower` artefact.
        query_tower: A `query_tower` artefact.
        index: An `index` artefact.
        evaluation: An `evaluation` artefact, whose gate says why.
        trained: A `trained_towers` artefact.
        config: The whole configuration as canonical JSON.
        registry: The registry's root folder.
        sources: The input files, from `resolve_inputs`.
        run_id: The run's id.

    Returns:
        The version's id.
    """
    import json

    from components.runtime import running
    from two_tower.config import RetentionSettings
    from two_tower.registry import Registry

    with running("keep_refused", run_id=run_id) as step:
        settings, versions = json.loads(config), Registry(registry, name)
        version = versions.add_refused(
            query_tower=step.read(query_tower),
            candidate_tower=step.read(candidate_tower),
            index=step.read(index),
            evaluation=step.read(evaluation),
            trained_towers=step.read(trained),
            prepared=step.read(prepared),
            config=settings,
            sources=json.loads(sources)["interactions"],
        )
        versions.keep_to(RetentionSettings.model_validate(settings["retention"]))
        return version
