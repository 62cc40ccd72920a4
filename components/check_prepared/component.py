"""What the last steps would refuse of the prepared data, refused before anything is trained."""

from kfp.dsl import Dataset, Input


def check_prepared(
    prepared: Input[Dataset], split: str, model: str, index_settings: str, evaluation_settings: str, code: str
) -> None:
    """Ends the run where what follows the training could not be done with these data.

    Args:
        prepared: A `prepared_data` artefact.
        split: Whose queries will measure the version, `validation` or `test`.
        model: The `model` section as canonical JSON.
        index_settings: The `index` section as canonical JSON.
        evaluation_settings: The `evaluation` section as canonical JSON.
        code: The fingerprint of the code that this step uses.
    """
    from components.runtime import running
    from two_tower import EvaluationSettings, IndexSettings, ModelSettings, check_prepared as check, parse_section
    from two_tower.model import settled
    from two_tower.progress import log

    with running("check_prepared") as step:
        data = step.read(prepared)
        left_out = check(
            data,
            model=settled(data, model=parse_section(ModelSettings, model)).model,
            index=parse_section(IndexSettings, index_settings),
            evaluation=parse_section(EvaluationSettings, evaluation_settings),
            split=split,  # type: ignore[arg-type]
        )
        for name, why in left_out.items():
            log.warning("the baseline %s does not fit these data and will be left out: %s", name, why)
