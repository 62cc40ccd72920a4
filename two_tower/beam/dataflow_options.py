"""The pipeline options of a Dataflow job: checked before anything is submitted, completed with what names the job.

Beam itself ignores options that it does not know, and Dataflow refuses the rest after minutes, one problem at a time.
"""

from __future__ import annotations

import argparse
import re
import zlib
from collections.abc import Iterator
from typing import Any

from two_tower.artifacts import Lineage
from two_tower.config import BeamSettings
from two_tower.settings import did_you_mean

NAME = "two-tower"
"""What a job's name begins with, unless the configuration says otherwise."""
LONGEST = 63
"""Characters of a job's name, of a label's key and of its value."""
LONGEST_START, LONGEST_PART = 36, 9
"""Characters of a job's name that NAME-STEP may take, and PART."""
LINEAGE = ("run_id", "step", "commit")
"""The labels that a step sets itself."""
MOST_LABELS = 64
COMPLETED = {"sdk_location": "container", "experiments": ["use_runner_v2"]}
"""Options that every job gets: the SDK of the image, on the runner that knows images."""

_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_BUCKET_FOLDER = re.compile(r"gs://[a-z0-9][-_a-z0-9.]+[a-z0-9]/[^\r\n]*")
_IMAGE_BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_RESOURCE = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBNETWORK = re.compile(
    rf"(https://www\.googleapis\.com/compute/v1/projects/[^/\s]+/)?regions/(?P<region>[^/\s]+)/subnetworks/{_RESOURCE}"
)
_FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    "project": (re.compile(r"[a-z][-a-z0-9:.]{1,61}[a-z0-9]"), "the id of a project (not its number, not its title)"),
    "region": (re.compile(r"[a-z]+-[a-z]+\d+"), "a region such as europe-west4"),
    "temp_location": (_BUCKET_FOLDER, "a folder such as gs://BUCKET/temp"),
    "staging_location": (_BUCKET_FOLDER, "a folder such as gs://BUCKET/staging"),
    "sdk_container_image": (
        _IMAGE_BY_DIGEST,
        "an image by digest, HOST/PROJECT/REPOSITORY/IMAGE@sha256:…: what a tag names can change between two runs, and "
        "cached steps would be of another code",
    ),
    "service_account_email": (
        re.compile(r"[^\s@]+@[^\s@]+\.gserviceaccount\.com"),
        "the e-mail address of a service account",
    ),
    "network": (
        re.compile(rf"(projects/[^/\s]+/global/networks/)?{_RESOURCE}"),
        "the name of a network, or projects/PROJECT/global/networks/NAME",
    ),
    "subnetwork": (_SUBNETWORK, "regions/REGION/subnetworks/NAME, or its whole address"),
    "machine_type": (
        re.compile(r"(custom|[a-z]\d+[a-z]*-(?!micro$|small$|medium$)[a-z]+\d*[a-z]*)(-[a-z0-9]+)*"),
        "a machine type such as n2-highmem-8 (Dataflow takes none with shared cores)",
    ),
    "worker_region": (re.compile(r"[a-z]+-[a-z]+\d+"), "a region such as europe-west4"),
    "worker_zone": (re.compile(r"[a-z]+-[a-z]+\d+-[a-z]"), "a zone such as europe-west4-a"),
    "job_name": (_JOB_NAME, "lower-case letters, digits and hyphens, the first a letter, the last no hyphen, up to 63"),
}
_REQUIRED = ("project", "region", "temp_location", "service_account_email")
_FORBIDDEN = {
    "runner": "it is beam.runner that names the runner",
    "streaming": "the steps are batch jobs",
    "no_wait_until_finish": "a step needs its job's results",
    "template_location": "a step needs its job's results",
    "dry_run": "a step needs its job's results",
    "update": "the steps are batch jobs",
    "save_main_session": "the workers have this code in their image, and need nothing of the launcher's memory",
    "worker_harness_container_image": "use sdk_container_image",
    "zone": "use worker_zone",
}
_ALIASES = {"worker_machine_type": "machine_type", "label": "labels", "experiment": "experiments"}


def check_options(beam: BeamSettings) -> list[str]:
    """Every problem of a `beam` section with Dataflow as its runner, each naming its key; empty where there is none.

    Starts nothing and asks no service.  Without Beam in the environment the names and types of the options that this
    module does not know itself stay unchecked.
    """
    return [*_problems(beam)]


def job_options(beam: BeamSettings, *, part: str = "") -> dict[str, Any]:
    """The options with which a job is submitted: those of the configuration, completed.

    The labels and the name say which step of which run started it, with which code (`Lineage`), where that is known;
    a job without a known run gets a name of Beam's making, unless the configuration names it.

    Args:
        beam: A section in which `check_options` finds no problem.
        part: Which of the step's jobs it is.
    """
    options = {_ALIASES.get(name, name): value for name, value in beam.options.items() if value is not None}
    lineage = Lineage.of_process()
    labels = _labels(options.pop("labels", {}))
    labels |= {name: label_value(text) for name, text in lineage.as_labels().items()}
    if labels:
        options["labels"] = [f"{key}={value}" for key, value in labels.items()]
    if lineage.run_id:
        options["job_name"] = job_name(options.get("job_name") or NAME, lineage, part)
    options.setdefault("staging_location", options.get("temp_location"))
    wanted = _listed(options.get("experiments"))
    options["experiments"] = [*wanted, *(one for one in COMPLETED["experiments"] if one not in wanted)]
    options.setdefault("sdk_location", COMPLETED["sdk_location"])
    return options


def job_name(name: str, lineage: Lineage, part: str = "") -> str:
    """NAME-STEP-RUN-PART as Dataflow takes it; a run that is too long is cut, and a checksum of it put there.

    The same step of the same run always has the same name, by which the jobs are found that an earlier try of the step
    has left: without `part` the name is what all of them begin with.
    """
    start, run = _slug(f"{name}-{lineage.step}")[:LONGEST_START].rstrip("-"), _slug(lineage.run_id)
    room = LONGEST - LONGEST_PART - 2 - len(start)
    if len(run) > room:
        run = f"{run[: room - 9].rstrip('-')}-{zlib.crc32(lineage.run_id.encode()):08x}"
    return "-".join(filter(None, (start, run, _slug(part)[:LONGEST_PART])))


def job_family(beam: BeamSettings) -> str | None:
    """What the names of all jobs of this step of this run begin with; None where the run is not known."""
    lineage = Lineage.of_process()
    return job_name(beam.options.get("job_name") or NAME, lineage) if lineage.run_id else None


def label_value(text: str) -> str:
    """The text as the value of a label: lower case, anything else a hyphen, 63 characters at most."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:LONGEST]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _problems(beam: BeamSettings) -> Iterator[str]:
    given = {name: value for name, value in beam.options.items() if value is not None}
    options = {_ALIASES.get(name, name): value for name, value in given.items()}
    missing = [name for name in _REQUIRED if options.get(name) in (None, "")]
    if missing:
        yield f"beam.options: DataflowRunner needs {' and '.join(missing)}"
    if not (options.get("sdk_container_image") or options.get("setup_file")):
        yield (
            "beam.options: DataflowRunner needs sdk_container_image (the prep image) or setup_file (this project's "
            "setup.py), so that its workers have this code"
        )
    if not _BUCKET_FOLDER.fullmatch(work := beam.work or ""):
        got = f", got {work!r}" if work else ""
        yield f"beam.work: DataflowRunner needs a gs:// folder that all its workers reach{got}"
    for name, value in given.items():
        if value and (why := _FORBIDDEN.get(name)):
            yield f"beam.options.{name}: cannot be set here: {why}"
        form, words = _FORMS.get(_ALIASES.get(name, name), (None, ""))
        if form and value != "" and not (isinstance(value, str) and form.fullmatch(value)):
            yield f"beam.options.{name}: {value!r} is not {words}"
    yield from _inconsistent(options)
    yield from _bad_labels(options.get("labels", {}))
    yield from _unknown_to_beam(given)


def _inconsistent(options: dict[str, Any]) -> Iterator[str]:
    """Options that are right by themselves, but not together."""
    region = options.get("worker_region") or options.get("region")
    zone, subnetwork = options.get("worker_zone"), _SUBNETWORK.fullmatch(str(options.get("subnetwork", "")))
    if options.get("worker_region") and zone:
        yield "beam.options: worker_region and worker_zone exclude each other; leave one out"
    elif zone and region and not str(zone).startswith(f"{region}-"):
        yield f"beam.options.worker_zone: {zone} does not lie in the region {region}"
    if subnetwork and region and subnetwork["region"] != region:
        yield f"beam.options.subnetwork: lies in the region {subnetwork['region']}, the workers in {region}"
    counts = [options.get(name) for name in ("num_workers", "max_num_workers")]
    for name, count in zip(("num_workers", "max_num_workers"), counts, strict=True):
        if isinstance(count, int) and count < 1:
            yield f"beam.options.{name}: {count} is fewer than one worker"
    if all(isinstance(count, int) for count in counts) and counts[0] > counts[1]:  # type: ignore[operator]
        yield f"beam.options.num_workers: {counts[0]} is more than max_num_workers, {counts[1]}"
    against = [one for one in _listed(options.get("experiments")) if one.startswith("disable_") and "runner" in one]
    if against:
        yield f"beam.options.experiments: {against[0]} turns off the runner that takes an image of our own"
    if options.get("sdk_location", "container") != "container":
        yield "beam.options.sdk_location: must be 'container', or the workers run another Beam than the launcher"


def _bad_labels(given: Any) -> Iterator[str]:
    try:
        labels = _labels(given)
    except ValueError as error:
        yield f"beam.options.labels: {error}"
        return
    for key, value in labels.items():
        if key in LINEAGE:
            yield f"beam.options.labels: {key!r} is set by the step itself; leave it out"
        elif not _LABEL_KEY.fullmatch(key):
            yield (
                f"beam.options.labels: no key of a label: {key!r}; up to 63 of a-z, 0-9, _ and -, the first of them a "
                "letter"
            )
        if not _LABEL_VALUE.fullmatch(value):
            yield f"beam.options.labels.{key}: no value of a label: {value!r}; up to 63 of a-z, 0-9, _ and -"
    if len(labels) > MOST_LABELS - len(LINEAGE):
        yield f"beam.options.labels: {len(labels)} labels; {MOST_LABELS - len(LINEAGE)} at most"


def _labels(given: Any) -> dict[str, str]:
    """The labels of a mapping, or of texts KEY=VALUE.

    Raises:
        ValueError: They are neither.
    """
    if isinstance(given, dict):
        return {str(key): str(value) for key, value in given.items()}
    pairs = [str(text).partition("=") for text in _listed(given)]
    if wrong := next((key for key, equals, _ in pairs if not equals), None):
        raise ValueError(f"expected a mapping, or a list of KEY=VALUE, got {wrong!r}")
    return {key: value for key, _, value in pairs}


def _listed(value: Any) -> list[str]:
    """A list of texts, or a text with commas, as a list."""
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else [*filter(None, str(value).split(","))]


class _Refusing(argparse.ArgumentParser):
    """A parser that raises where `argparse` would end the process."""

    def error(self, message: str) -> Any:
        raise ValueError(message)


def _unknown_to_beam(options: dict[str, Any]) -> Iterator[str]:
    """The options that Beam does not know, and the values that it cannot read."""
    try:
        parser, known = _beams_parser()
    except ImportError:
        return
    from apache_beam.options.pipeline_options import PipelineOptions

    for name, value in options.items():
        if name == "labels":
            continue
        if name not in known:
            hint = did_you_mean(name, known)
            yield f"beam.options.{name}: Beam has no such option, and would ignore it without a word{hint}"
            continue
        flags = PipelineOptions.from_dictionary({name: value})._flags
        try:
            parser.parse_args(flags)
        except (ValueError, argparse.ArgumentError) as error:
            yield f"beam.options.{name}: {value!r} cannot be used: {error}"


def _beams_parser() -> tuple[argparse.ArgumentParser, set[str]]:
    """A parser of every option that Beam has registered, and the options' names."""
    from apache_beam.options import pipeline_options
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    class Parser(_BeamArgumentParser, _Refusing):  # type: ignore[misc]
        pass

    parser = Parser(allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        if kind.__module__.startswith("apache_beam."):
            kind._add_argparse_args(parser)
    names = {flag.removeprefix("--") for action in parser._actions for flag in action.option_strings}
    return parser, (names | set(pipeline_options._FLAG_THAT_SETS_FALSE_VALUE)) - {"-h", "help"}
