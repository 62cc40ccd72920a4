"""Killed at a random moment inside any step, a run can be started again and finishes."""

import random
import time

import pytest
from project import kill, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RUN = ("run", "configs/tiny.yaml", "--workdir", "killed")


def test_a_run_killed_inside_every_step_goes_on_from_there(project):
    """Alternately the whole process group and the runner alone; each restart redoes at most the step that was cut."""
    rng = random.Random(20)
    steps = [
        "resolve_inputs", "prepare_data", "train_towers", "export_candidate_tower", "embed_candidates", "build_index",
        "export_query_tower", "evaluate_recall", "promote", "write_report",
    ]  # fmt: skip
    cached = ("prepare_data", "train_towers", "export_candidate_tower", "embed_candidates", "build_index",
              "export_query_tower", "evaluate_recall")  # fmt: skip
    finished: set[str] = set()
    longest = 1.0
    for number, step in enumerate(steps):
        count = len(project.runs("killed"))
        process = project.start(*RUN)
        is_running = lambda: len(project.runs("killed")) > count and project.states("killed")[step] == "running"  # noqa: E731, B023
        assert wait_for(is_running, process=process), f"the run ended before {step} ran"
        states = project.states("killed")
        redone = {name for name in finished if states[name] == "ran"}
        assert not redone, f"{redone} ran again although they had finished"
        time.sleep(rng.uniform(0, longest))
        kill(process, group=number % 2 == 0)
        states = project.states("killed")
        finished |= {name for name in cached if states[name] in ("ran", "cached") and name != "evaluate_recall"}
        seconds = [s["seconds"] for s in project.runs("killed")[-1]["steps"]]
        longest = max(1.0, min(4.0, max(seconds)))
        assert_registry_is_whole(project)
    project.command(*RUN)
    assert project.champion("killed") == project.runs("killed")[-1]["version"]
    assert_registry_is_whole(project)


def assert_registry_is_whole(project):
    """The alias names a complete version, or there is none; no visible version is half of one."""
    from two_tower.registry import Registry

    registry = Registry(project.folder / "killed" / "registry", "tiny")
    for version in registry.versions():
        version.verify()
    champion = registry.champion()
    assert champion is None or champion.id == project.champion("killed")


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(project):
    """The limit on a file's size stands for the full disk: the same write fails with the same class of error."""
    import resource

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    result = project.command("run", "configs/tiny.yaml", "--workdir", "full", code=1, preexec_fn=small_files)
    assert "cannot write" in result.stdout and "Traceback" not in result.stdout
    for manifest in (project.folder / "full" / "artifacts").rglob("manifest.json"):
        assert "prepared" not in str(manifest)
    project.command("run", "configs/tiny.yaml", "--workdir", "full")
