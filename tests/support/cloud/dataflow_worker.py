"""Dataflow's workers: runs the pipeline that Beam has staged, with Beam's own in-process runner.

    python -P dataflow_worker.py FOLDER     (-P: or the modules beside this file hide Python's own)

FOLDER holds `pipeline.pb` and `options.json`; `result.json` is left there: the counters, or the error.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


def main(folder: Path) -> None:
    pipeline = beam_runner_api_pb2.Pipeline.FromString((folder / "pipeline.pb").read_bytes())
    for environment in pipeline.components.environments.values():
        assert environment.urn == common_urns.environments.DOCKER.urn, environment.urn
        environment.urn, environment.payload = "beam:env:embedded_python:v1", b""
        del environment.dependencies[:]
    options = PipelineOptions.from_dictionary(json.loads((folder / "options.json").read_text()))
    try:
        result = FnApiRunner().run_via_runner_api(pipeline, options)
        result.wait_until_finish()
        answer: dict[str, Any] = {"counters": _counters(result)}
    except Exception:
        answer = {"error": traceback.format_exc()}
    (folder / "result.json").write_text(json.dumps(answer))


def _counters(result: Any) -> list[dict[str, Any]]:
    found = result.metrics().query()["counters"]
    return [
        {"namespace": one.key.metric.namespace, "name": one.key.metric.name, "step": one.key.step, "value": one.result}
        for one in found
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
