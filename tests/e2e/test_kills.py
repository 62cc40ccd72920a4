"""Killed at a random moment inside any step, a run can be started again and finishes."""

import random
import time

import pytest
from project import kill, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CACHED = [
    "prepare_data", "check_prepared", "train_towers", "export_candidate_tower", "embed_candidates", "build_index",
    "export_query_tower",
]  # fmt: skip
"""The steps whose inputs do not change when a version is promoted."""

STEPS = ["resolve_inputs", *CACHED, "evaluate_recall", "promote", "write_report"]
LONGEST_WAIT = 4.0
"""Seconds into a step at which it is killed, at most."""


def test_a_run_killed_inside_every_step_goes_on_from_there(project):
    """Alternately the whole process group and the runner alone; each restart redoes at most the step that was cut.

    The order of steps that do not depend on each other differs from run to run, so whichever comes next is cut.
    """
    workdir = "killed"
    command = ("run", "configs/tiny.yaml", "--workdir", workdir)
    rng = random.Random(42)
    uncut, finished = set(STEPS), set()
    while uncut:
        count = len(project.runs(workdir))
        process = project.start(*command)
        step = next_of(uncut, project, workdir, count, process)
        again = {name for name in finished if project.states(workdir)[name] == "ran"}
        assert not again, f"{again} ran again although they had finished"
        until = time.monotonic() + rng.uniform(0, LONGEST_WAIT)
        wait_for(lambda: time.monotonic() > until or project.states(workdir)[step] != "running")  # noqa: B023
        kill(process, group=len(uncut) % 2 == 0)
        uncut.remove(step)
        finished |= {name for name in CACHED if project.states(workdir)[name] in ("ran", "cached")}
        assert_registry_is_whole(project, workdir)
    project.command(*command)
    assert project.champion(workdir) == project.runs(workdir)[-1]["version"]
    assert_registry_is_whole(project, workdir)


def next_of(uncut, project, workdir, count, process) -> str:
    """The first step of `uncut` that the run after the first `count` runs, once it does."""
    found = []

    def is_running() -> bool:
        if len(project.runs(workdir)) > count:
            states = project.states(workdir)
            found.extend(step for step in uncut if states[step] == "running")
        return bool(found)

    assert wait_for(is_running, process=process), f"the run ended before any of {uncut} ran"
    return found[0]


def assert_registry_is_whole(project, workdir):
    """The alias names a complete version, or there is none; no visible version is half of one."""
    from two_tower.registry import Registry

    registry = Registry(project.folder / workdir / "registry", "tiny")
    for version in registry.versions():
        version.verify()
    champion = registry.champion()
    assert champion is None or champion.id == project.champion(workdir)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(project):
    """The limit on a file's size stands for the full disk: the same write fails with the same class of error."""
    import resource

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the compiled pipeline has less

    result = project.command("run", "configs/tiny.yaml", "--workdir", "full", code=1, preexec_fn=small_files)
    assert "cannot write" in result.stdout and "Traceback" not in result.stdout
    for manifest in (project.folder / "full" / "artifacts").rglob("manifest.json"):
        assert "prepared" not in str(manifest)
    project.run_until("prepare_data", "configs/tiny.yaml", workdir="full")
