"""What can be seen without asking anybody: the compiled pipeline, images, machines, labels, Beam, paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from components.build import IMAGE_OF
from pipelines.remote.preflight.problem import MAKE_IMAGES, Problem, gcloud
from pipelines.remote.preflight.run import IMAGE_BY_DIGEST, PlannedRun, executors, paths, tables
from pipelines.remote.submission import Submission
from two_tower.artifacts import normalised
from two_tower.config import BeamSettings

RUN_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")

LABEL_KEY, LABEL_VALUE, MOST_LABELS = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}"), 64


ACCELERATORS = {"vertex": re.compile(r"NVIDIA_[A-Z0-9_]+"), "kubeflow": re.compile(r"[a-z0-9.-]+/[A-Za-z0-9._-]+")}

ACCELERATOR_EXAMPLE = {"vertex": "NVIDIA_TESLA_T4 or NVIDIA_L4", "kubeflow": "nvidia.com/gpu"}


def _spec(submission: Submission) -> Iterator[Problem]:
    """The compiled pipeline is one that the services read."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    try:
        json_format.ParseDict(submission.pipeline, pipeline_spec_pb2.PipelineSpec(), ignore_unknown_fields=False)
    except json_format.ParseError as error:
        to_do = "install the packages of requirements.lock, whose kfp compiles a pipeline that it can read itself"
        yield Problem("pipeline", f"the compiled pipeline is no PipelineSpec: {error}", to_do)


def _parameters(submission: Submission) -> Iterator[Problem]:
    """Parameters are those that the pipeline has."""
    root = submission.pipeline.get("root", {})
    declared = root.get("inputDefinitions", {}).get("parameters", {})
    for name in submission.parameters.keys() - declared.keys():
        known = ", ".join(sorted(declared)) or "none"
        yield Problem("parameters", f"the pipeline has no parameter {name!r}", f"leave it out; it has {known}")
    for name, facts in declared.items():
        if name not in submission.parameters and "defaultValue" not in facts and not facts.get("isOptional"):
            yield Problem("parameters", f"the pipeline's parameter {name!r} has no value", "give it one")


def _images(submission: Submission) -> Iterator[Problem]:
    """Every image is there, by digest."""
    seen = set()
    for step, image in executors(submission):
        target = IMAGE_OF.get(step, step)
        if target in seen or IMAGE_BY_DIGEST.fullmatch(image):
            continue
        seen.add(target)
        steps = [name for name, own in IMAGE_OF.items() if own == target] or [step]
        if "/" not in image:  # the stand-in of a local run
            yield Problem(f"images.{target}", f"no image for {', '.join(steps)}", MAKE_IMAGES)
            continue
        yield Problem(
            f"images.{target}",
            f"{image} is not named by digest: a tag can be moved, and since the cache goes by an image's name, steps "
            "of the new code would be answered with results of the old one",
            f"name it as {re.sub(r'(@.*|:[^:/]+)$', '', image)}@sha256:… with 64 hexadecimal digits; "
            f"{gcloud('artifacts', 'docker', 'images', 'describe', image)} tells them",
        )


def _resources(submission: Submission, backend: str) -> Iterator[Problem]:
    """Accelerators are asked for by names and in numbers that there are."""
    environment = submission.environment.resources
    for step, asked in submission.config.resources.items():
        is_default = step not in environment and asked == environment.get("default")
        key = f"resources.{'default' if is_default else step}"
        if asked.accelerator is None:
            continue
        if not ACCELERATORS[backend].fullmatch(asked.accelerator):
            what = f"{asked.accelerator!r} is no type of accelerator"
            yield Problem(f"{key}.accelerator", what, f"write {ACCELERATOR_EXAMPLE[backend]}, for example")
        count = asked.accelerator_count
        if count & (count - 1):
            what = f"{count} accelerators at one machine are not to be had"
            yield Problem(f"{key}.accelerator_count", what, "take 1, 2, 4, 8 or 16")


def _labels(submission: Submission) -> Iterator[Problem]:
    labels = submission.labels
    if len(labels) > MOST_LABELS:
        yield Problem("labels", f"{len(labels)} labels, of which {MOST_LABELS} are possible", "leave some out")
    rule = "up to 63 of a-z, 0-9, _ and -"
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            yield Problem("labels", f"{key!r} is no key of a label", f"write {rule}, the first of them a letter")
        if not LABEL_VALUE.fullmatch(value):
            yield Problem(f"labels.{key}", f"{value!r} is no value of a label", f"write {rule}")


def _run_id(submission: Submission) -> Iterator[Problem]:
    if not RUN_ID.fullmatch(submission.run_id):
        to_do = "up to 128 of a-z, 0-9 and -, the first of them a letter; the configuration's name is its beginning"
        yield Problem("name", f"{submission.run_id!r} is no id of a run", to_do)


def _beam(beam: BeamSettings) -> Iterator[Problem]:
    """The runner of the Beam steps is one that there is, and has what it needs."""
    from two_tower.beam import check_options

    if beam.runner == "DataflowRunner":
        for text in check_options(beam):
            where, _, what = text.partition(": ")
            yield Problem(where, what, "mend it in the section `beam` of the environment file")
        return
    if beam.runner == BeamSettings().runner:
        return
    try:
        from two_tower.beam import LOCAL, REMOTE
    except ImportError:  # this machine only submits
        return
    if beam.runner not in (*LOCAL, *REMOTE):
        known = ", ".join((*LOCAL, *REMOTE))
        yield Problem("beam.runner", f"there is no runner {beam.runner!r}", f"take one of {known}")
    elif beam.runner in REMOTE and "://" not in (beam.work or ""):
        what = f"{beam.runner} needs a folder that all its workers reach, got {beam.work!r}"
        yield Problem("beam.work", what, "write gs://BUCKET/FOLDER")


def _places(submission: Submission, backend: str) -> Iterator[Problem]:
    """Nothing is looked for on a machine that no step runs on."""
    environment, config = submission.environment, submission.config
    paths = {"data_root": environment.data_root, "embedding.previous": config.embedding.previous}
    for key, path in paths.items():
        if path and "://" not in normalised(path):
            yield _only_here(key, path, backend)
    if config.data.incremental:
        yield Problem(
            "data.incremental", "a run elsewhere is not told of earlier preparations, so that it keeps events for none",
            "set it to false to save their space", blocking=False,
        )  # fmt: skip


def _sources(run: PlannedRun) -> Iterator[Problem]:
    is_filled = run.config is not run.submission.config
    for key, source in tables(run.config).items():
        for path in paths(source):
            if path.startswith("file:") or ("://" not in path and PurePosixPath(path).is_absolute()):
                yield _only_here(f"{key}.path", path, run.backend)
            if is_filled and (left := re.search(r"\{[^{}]*\}", path)):
                to_do = "write {date}, {date-7d}, {date-1d:%Y/%m/%d}, {time} or {time-24h}"
                yield Problem(f"{key}.path", f"{left[0]} in {path!r} is no placeholder that is known", to_do)


def _only_here(key: str, path: str, backend: str) -> Problem:
    on_vertex = backend == "vertex"
    return Problem(
        key,
        f"{path} is a folder of a machine, and the steps' containers do not have this one's",
        "put it on Cloud Storage and name it as gs://BUCKET/FOLDER" + ("" if on_vertex else ", or mount it everywhere"),
        blocking=on_vertex,
    )


def found_here(run: PlannedRun) -> list[Problem]:
    """What is wrong with a run, as far as it can be seen without asking anybody."""
    submission = run.submission
    return [
        *_spec(submission), *_parameters(submission), *_images(submission), *_resources(submission, run.backend),
        *_labels(submission), *_run_id(submission), *_beam(submission.config.beam), *_places(submission, run.backend),
        *_sources(run),
    ]  # fmt: skip
