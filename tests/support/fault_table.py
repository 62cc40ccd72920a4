"""A fault at every kind of call that a good run makes, of the command and of the steps, and what is run again after it.

The table is made of the calls that the stand-in has recorded in the good run.
"""

import contextlib
import io
import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

from cloud import Call, Cloud, Fault
from rich.console import Console

from components.build import body_of
from pipelines.remote import commands
from pipelines.remote.submission import make_submission
from two_tower.artifacts import open_artifact, staging
from two_tower.config import canonical_json, load_config, load_environment
from two_tower.errors import UserError
from two_tower.registry import Registry

CONFIG = "configs/tiny.yaml"
ALWAYS = ("429", "503", "403", "lost_reply")
AREAS = {
    "the champion": r"/registry/tiny/champion\.json",
    "the history": r"/registry/tiny/history\.jsonl",
    "a version's manifest": r"/registry/tiny/versions/[0-9a-f]{16}/manifest\.json",
    "a version": r"/registry/tiny",
    "the logs": r"/data/tiny",
    "an artefact's manifest": r"/pipelines/.*/manifest\.json",
    "an artefact": r"/pipelines",
}
"""What an object or a list is about, the most special first."""


def kind_of(call: Call) -> tuple[str, str]:
    """The name of a call, and what it is about where that is on the bucket."""
    if not call.name.startswith("storage.objects"):
        return call.name, ""
    return call.name, next((area for area, found in AREAS.items() if re.search(found, call.resource)), "the bucket")


class Rows:
    """What is done for a row of the table, on what the good run has left."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.good = next(iter(cloud.jobs.values()))
        self.run = next((cloud.buckets / cloud.bucket / "pipelines").glob(f"*/{self.good.id}"))
        self.numbers = itertools.count()
        (metrics,) = self.run.glob("*/evaluation/metrics.json")
        self.version: str = json.loads(metrics.read_text())["version"]
        """What the good run has promoted."""

    def submit(self) -> None:
        """Checks, submits and follows a run, whose steps the stand-in takes from the good run."""
        environment = load_environment("prod.yaml")
        submission = make_submission(Path(CONFIG), environment, backend="vertex", run_id=f"row-{next(self.numbers)}")
        for _ in range(2):  # the second time is the rerun
            with contextlib.suppress(UserError), self._replaying(submission.run_id):
                console = Console(file=io.StringIO())
                if (
                    commands.submit(
                        submission, console, file=Path("prod.yaml"), kind="vertex", host=None, wait=True, dry_run=False
                    )
                    == 0
                ):
                    break
        else:
            raise AssertionError("the rerun did not complete")
        assert [name for name in self.cloud.jobs if name == submission.run_id] == [submission.run_id]

    @contextlib.contextmanager
    def _replaying(self, run_id: str) -> Iterator[None]:
        """Ends the run of this id as the good one has ended."""
        done = threading.Event()

        def replay() -> None:
            while not done.is_set():
                job = self.cloud.jobs.get(run_id)
                if job is not None and job.execution.state == "PENDING":
                    shutil.copyfile(self.good.execution.folder / "tasks.json", job.execution.folder / "tasks.json")
                    job.execution.settle("SUCCEEDED")
                time.sleep(0.02)

        thread = threading.Thread(target=replay)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def resolve_inputs(self) -> None:
        """The first step, twice if need be."""
        config = canonical_json(load_config(CONFIG))
        root = f"gs://{self.cloud.bucket}"
        again(lambda: body_of("resolve_inputs")(
            config, f"{root}/data", f"{root}/registry", "[]", "", "UTC", "", "", "row"
        ))  # fmt: skip

    def prepare_data(self) -> None:
        """A step that reads the logs and writes artefacts; what it leaves is whole."""
        config = load_config(CONFIG)
        sources = json.dumps(self._sources())
        number = next(self.numbers)
        prepared, profile = (self._artifact(f"pipelines/rows/run/{number}/{name}") for name in ("prepared", "profile"))
        again(lambda: body_of("prepare_data")(
            sources, "", canonical_json(config.data), canonical_json(config.beam), "", prepared, profile
        ))  # fmt: skip
        with staging() as staged:
            open_artifact(staged.read(prepared.uri), "prepared_data")

    def promote(self) -> None:
        """The promotion into a registry of its own; afterwards there is one version, one line of history, whole."""
        number = next(self.numbers)
        root = f"gs://{self.cloud.bucket}/rows-{number}/registry"
        inputs = {
            name: self._artifact(f"pipelines/{path.relative_to(self.run.parent.parent)}")
            for name, path in self._outputs().items()
        }
        config = canonical_json(load_config(CONFIG))
        again(lambda: body_of("promote")(
            name="tiny", **inputs, config=config, registry=root, run_id="row", sources=json.dumps(self._sources())
        ))  # fmt: skip
        registry = Registry(root, "tiny")
        champion = registry.champion()
        assert champion is not None
        champion.verify()
        assert [version.id for version in registry.versions()] == [champion.id]
        assert [decision.version for decision in registry.history()] == [champion.id]

    def _outputs(self) -> dict[str, Path]:
        names = ("prepared", "candidate_tower", "query_tower", "index", "evaluation", "trained")
        return {name: next(self.run.glob(f"*/{name}")) for name in names}

    def _sources(self) -> object:
        from two_tower.data import resolve_sources

        config = load_config(CONFIG)
        return resolve_sources(config.data, dataset="tiny", data_root=f"gs://{self.cloud.bucket}/data")

    def _artifact(self, path: str) -> SimpleNamespace:
        return SimpleNamespace(uri=f"gs://{self.cloud.bucket}/{path}", path=f"/nowhere/{path}", metadata={})


def again(step: Callable[[], object]) -> None:
    """Runs a step, and once more if it failed with a word for the user."""
    try:
        step()
    except SystemExit:
        step()


SCENARIOS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # The call (and what it is about): the scenarios that make it, and the faults.
    r"oauth2\.token": (("submit",), ("503", "lost_reply")),
    r"cloudresourcemanager\..*|serviceusage\..*|iam\..*|docker\..*": (("submit",), ALWAYS),
    r"storage\.buckets\..*": (("submit",), ALWAYS),
    r"PipelineService\.(Get|List)PipelineJobs?": (("submit",), ALWAYS),
    r"PipelineService\.CreatePipelineJob": (("submit",), ALWAYS),
    r"storage\.objects\.\w+ the logs": (("resolve_inputs", "prepare_data"), ALWAYS),
    r"storage\.objects\.\w+ (the champion|the history|a version.*)": (("promote",), ALWAYS),
    r"storage\.objects\.\w+ an artefact.*": (("promote", "prepare_data"), ALWAYS),
}


def go_through(rows: Rows, calls: Iterable[Call]) -> tuple[int, list[str]]:
    """Orders each fault of the table in turn, reruns what has met it; how many rows there were, and what went wrong."""
    cloud, registry = rows.cloud, Registry(f"gs://{rows.cloud.bucket}/registry", "tiny")
    champion, wrong, count = registry.champion(), [], 0
    for name, area in sorted({kind_of(call) for call in calls}):
        covered = next((row for found, row in SCENARIOS.items() if re.fullmatch(found, f"{name} {area}".strip())), None)
        if covered is None:
            wrong.append(f"{name} {area}: no scenario has this call")
            continue
        for fault_kind in covered[1]:
            where = AREAS[area].replace("/registry", "/(rows-\\d+/)?registry") if area in AREAS else ""
            fault = Fault(f"^{re.escape(name)} .*{where}", fault_kind)
            cloud.faults[:] = [fault]
            try:
                for scenario in covered[0]:
                    if not fault.hits:
                        getattr(rows, scenario)()
                assert fault.hits, "no call was hit"
                assert registry.champion() == champion, "another champion"
            except (Exception, SystemExit) as error:
                wrong.append(f"{name} {area}, {fault_kind}: {error!r}")
            finally:
                cloud.faults.clear()
            count += 1
    return count, wrong
