"""Logs and tables to validated, split examples and queries."""

from kfp.dsl import Dataset, Output


def prepare_data(
    sources: str, previous: str, data: str, beam: str, code: str, prepared: Output[Dataset], profile: Output[Dataset]
) -> None:
    """Validates the logs, splits them by time, builds histories, vocabularies and the candidate table.

    Args:
        sources: The files, from `resolve_inputs`.
        previous: Earlier prepared data, whose files need not be read again, from `resolve_inputs`; or an empty text.
        data: The `data` section as canonical JSON.
        beam: The `beam` section as canonical JSON.
        code: The fingerprint of the code that this step uses.
        prepared: A `prepared_data` artefact.
        profile: A `data_profile` artefact.
    """
    import json

    from components.runtime import running
    from two_tower import BeamSettings, DataSettings, parse_section, prepare
    from two_tower.progress import log

    with running("prepare_data") as step:
        made = prepare(
            json.loads(sources),
            out=step.write(prepared),
            data=parse_section(DataSettings, data),
            beam=parse_section(BeamSettings, beam),
            profile=step.write(profile),
            previous=step.fetch(previous) or None,
        )
        for note in made.notes:
            log.info("prepare_data: note: %s", note)
