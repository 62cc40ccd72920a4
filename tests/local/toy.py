"""A DAG of three quick steps under names of the real one, to test the local runner; run as a program by the tests.

Usage: python toy.py WORKDIR [bad | beat FILE | broken], the configuration's name in TOY_NAME
"""

import os
import sys
from pathlib import Path

from kfp import compiler, dsl
from rich.console import Console

from pipelines.cli.streams import lasting_streams
from pipelines.local.locks import exclusive_run
from pipelines.local.runner import run_pipeline
from pipelines.runs import Run
from pipelines.views.console import PlainWatcher


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def prepare_data(text: str, made: dsl.Output[dsl.Dataset]):
    from pathlib import Path

    from components.runtime import running
    from two_tower.progress import log

    with running("prepare_data"):
        log.info("prepares %s", text)
        Path(made.path).write_text(text)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def train_towers(made: dsl.Input[dsl.Dataset], what: str, beat: str):
    import time
    from pathlib import Path

    from components.runtime import running
    from two_tower.errors import DataError

    with running("train_towers"):
        if what == "bad":
            raise DataError("log.parquet: row 3 is bad; mend it")
        if what == "broken":
            raise ZeroDivisionError("a bug")
        for number in range(600 if what == "beat" else 0):
            Path(beat).write_text(str(number))
            time.sleep(0.1)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def report_failure(status: dsl.PipelineTaskFinalStatus, run_id: str):
    print("ended as", status.state)


@dsl.pipeline(name="toy")
def toy(text: str = "hello", what: str = "", beat: str = "", run_id: str = ""):
    with dsl.ExitHandler(report_failure(run_id=run_id).set_caching_options(False)):
        made = prepare_data(text=text).outputs["made"]
        train_towers(made=made, what=what, beat=beat)


def main() -> None:
    """Runs the toy DAG once."""
    workdir = Path(sys.argv[1])
    name = os.environ.get("TOY_NAME", "toy")
    with exclusive_run(workdir, name):
        run = Run.start(workdir, name=name, config_file="toy.yaml", config={})
        file = run.folder / "pipeline.yaml"
        compiler.Compiler().compile(toy, str(file))
        what, beat = [*sys.argv[2:], "", ""][:2]
        watcher = PlainWatcher(run, Console(file=sys.stdout, width=160))
        succeeded = run_pipeline(run, file, {"what": what, "beat": beat}, watcher=watcher, cache=True)
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    with lasting_streams():
        main()
