"""The exit handler: whatever happened, a page is left."""

from kfp.dsl import HTML, Output, PipelineTaskFinalStatus


def report_failure(status: PipelineTaskFinalStatus, run_id: str, page: Output[HTML]) -> None:
    """Writes a page that names the failed step with its last log lines; a run that went well has its report.

    Args:
        status: How the DAG ended, from KFP.
        run_id: The run's id.
        page: The HTML file.
    """
    import json
    import shutil
    from typing import Any

    from components.runtime import run_folder, running
    from components.step_log import cause_in, own_log
    from two_tower.report import write_failure_page

    with running("report_failure", run_id=run_id) as step:
        folder = run_folder()
        run: dict[str, Any] = (
            json.loads((folder / "run.json").read_text()) if folder else {"run_id": run_id, "steps": []}
        )
        failed = next((each for each in run["steps"] if each["state"] == "failed"), None)
        if status.state == "SUCCEEDED" and not failed:
            return
        left = step.write(page)
        file = folder / "logs" / f"{failed['name']}.log" if folder and failed else None
        log = file.read_text(errors="replace") if file and file.exists() else ""
        write_failure_page(
            left,
            title=run.get("name", run_id),
            run_id=run_id,
            failed_step=failed["name"] if failed else None,
            cause=cause_in(log) if log else status.error_message or "",
            error_tail=own_log(log)[-4000:],
            run=run,
        )
        if folder:
            shutil.copyfile(left, folder / "report.html")
