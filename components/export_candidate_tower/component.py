"""Trained towers to the candidate tower's SavedModel."""

from kfp.dsl import Input, Model, Output


def export_candidate_tower(trained: Input[Model], code: str, candidate_tower: Output[Model]) -> None:
    """Writes the SavedModel that turns an item's raw features into its embedding.

    Args:
        trained: A `trained_towers` artefact.
        code: The fingerprint of the code that this step uses.
        candidate_tower: A `candidate_tower` artefact.
    """
    from components.runtime import running
    from two_tower import export_candidate_tower as export

    with running("export_candidate_tower") as step:
        export(step.read(trained), step.write(candidate_tower))
