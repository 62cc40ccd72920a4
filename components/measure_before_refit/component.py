"""Test queries through the weights that validation chose, before the refit."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output


def measure_before_refit(
    prepared: Input[Dataset], trained: Input[Model], figures_settings: str, code: str, before_refit: Output[Artifact]
) -> None:
    """Measures the towers before their refit by exact search.

    Args:
        prepared: A `prepared_data` artefact.
        trained: A `trained_towers` artefact.
        figures_settings: What of the `evaluation` section figures depend on, as canonical JSON.
        code: The fingerprint of the code that this step uses.
        before_refit: A `before_refit` artefact.
    """
    from components.runtime import running
    from two_tower import EvaluationSettings, measure_before_refit as measure, parse_section

    with running("measure_before_refit") as step:
        measure(
            step.read(prepared),
            step.read(trained),
            step.write(before_refit),
            evaluation=parse_section(EvaluationSettings, figures_settings),
        )
