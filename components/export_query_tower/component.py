"""Trained towers and candidate vectors to the query tower's SavedModel."""

from kfp.dsl import Dataset, Input, Model, Output


def export_query_tower(
    trained: Input[Model], embeddings: Input[Dataset], code: str, query_tower: Output[Model]
) -> None:
    """Writes the SavedModel that turns a raw query (history of item ids, features) into its embedding.

    Args:
        trained: A `trained_towers` artefact.
        embeddings: A `candidate_embeddings` artefact, which becomes the tower's frozen history table.
        code: The fingerprint of the code that this step uses.
        query_tower: A `query_tower` artefact.
    """
    from components.runtime import running
    from two_tower import export_query_tower as export

    with running("export_query_tower") as step:
        export(step.read(trained), step.read(embeddings), step.write(query_tower))
