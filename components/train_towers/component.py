"""Prepared data to trained towers."""

from kfp.dsl import Dataset, Input, Model, Output


def train_towers(
    prepared: Input[Dataset], model: str, training: str, warm_start: str, code: str, trained: Output[Model]
) -> None:
    """Trains the two towers, keeping the epoch with the best validation recall.

    Args:
        prepared: A `prepared_data` artefact.
        model: The `model` section as canonical JSON.
        training: The `training` section as canonical JSON.
        warm_start: The folder of the champion's `trained_towers` to start from; empty to start fresh.
        code: The fingerprint of the code that this step uses.
        trained: A `trained_towers` artefact.
    """
    from components.runtime import running
    from two_tower import ModelSettings, TrainingSettings, parse_section, train

    with running("train_towers") as step:
        train(
            step.read(prepared),
            step.write(trained),
            model=parse_section(ModelSettings, model),
            training=parse_section(TrainingSettings, training),
            champion=step.fetch(warm_start) or None,
        )
