"""Test queries through the weights that validation chose, before the refit."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output


def measure_before_refit(
    prepared: Input[Dataset], trained: Input[Model], evaluation_settings: str, code: str, before_refit: Output[Artifact]
):
    """Measures the towers before their refit by exact search; where there was none it has nothing to do.

    Args:
        prepared: A `prepared_data` artefact.
        trained: A `trained_towers` artefact.
        evaluation_settings: The `evaluation` section as canonical JSON.
        code: The fingerprint of the code that this step uses.
        before_refit: A `before_refit` artefact.
    """
    from components.runtime import running
    from two_tower.config import Evaluation, parse_section
    from two_tower.model import measure_before_refit as measure

    with running("measure_before_refit") as step:
        measure(
            step.read(prepared),
            step.read(trained),
            step.write(before_refit),
            evaluation=parse_section(Evaluation, evaluation_settings),
        )
