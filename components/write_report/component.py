"""The page that a person opens."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output


def write_report(
    prepared: Input[Dataset],
    trained: Input[Model],
    index: Input[Artifact],
    evaluation: Input[Artifact],
    config: str,
    new_data: str,
    run_id: str,
    report: Output[HTML],
) -> None:
    """Writes the run's report, one self-contained HTML file; a local run finds it in its folder too.

    Args:
        prepared: A `prepared_data` artefact.
        trained: A `trained_towers` artefact.
        index: An `index` artefact.
        evaluation: An `evaluation` artefact.
        config: The whole configuration as canonical JSON.
        new_data: What this run's logs hold that the champion has not seen, from `resolve_inputs`.
        run_id: The run's id.
        report: The HTML file.
    """
    import json
    import shutil

    from components.runtime import run_folder, running
    from two_tower import write_report as write

    with running("write_report", run_id=run_id) as step:
        folder = run_folder()
        run = json.loads((folder / "run.json").read_text()) if folder else {"run_id": run_id}
        page = step.write(report)
        write(
            page,
            prepared=step.read(prepared),
            trained=step.read(trained),
            evaluation=step.read(evaluation),
            index=step.read(index),
            config=json.loads(config),
            new_data=json.loads(new_data),
            run=run,
        )
        if folder:
            shutil.copyfile(page, folder / "report.html")
