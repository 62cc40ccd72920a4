"""The page that a person opens."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output


def write_report(
    prepared: Input[Dataset],
    trained: Input[Model],
    index: Input[Artifact],
    evaluation: Input[Artifact],
    config: str,
    run_id: str,
    report: Output[HTML],
):
    """Writes the run's report, one self-contained HTML file; a local run finds it in its folder too.

    Args:
        prepared: A `prepared_data` artefact.
        trained: A `trained_towers` artefact.
        index: An `index` artefact.
        evaluation: An `evaluation` artefact.
        config: The whole configuration as canonical JSON.
        run_id: The run's id.
        report: The HTML file.
    """
    import json
    import shutil

    from components.runtime import run_folder, running
    from two_tower.evaluation import write_report as write

    with running("write_report"):
        folder = run_folder()
        run = json.loads((folder / "run.json").read_text()) if folder else {"run_id": run_id}
        write(
            report.path,
            prepared=prepared.path,
            trained=trained.path,
            evaluation=evaluation.path,
            index=index.path,
            config=json.loads(config),
            run=run,
        )
        if folder:
            shutil.copyfile(report.path, folder / "report.html")
