"""Promotions and rollbacks that are killed, fail in any file operation, or meet each other."""

import errno
import functools
import itertools
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_parts import assert_consistent, assert_whole, make_parts, read_file, version_of
from registry_programs import CHANGER, go, start, start_promoter

from two_tower.artifacts import is_remote
from two_tower.registry import Registry

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile", "shutil.rmtree"}
FINISHED, FAILED, UNTOUCHED, KILLED = 0, 1, 2, 9


def run_until_operation(action: Callable[[], object], number: int, *, root: Path, fault: str) -> int:
    """Runs `action` in a child whose write `number` (from 0) under `root` kills it or fails; its exit code.

    UNTOUCHED means that the action has fewer writes than that.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == number + 1:
            if fault == "kill":
                os._exit(KILLED)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in WRITES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and any(str(root) in each for each in places(event, arguments)):
            count()

    real_fsync = os.fsync
    os.fsync = lambda descriptor: (count(), real_fsync(descriptor))[1]  # no audit event tells of it
    sys.addaudithook(hook)
    try:
        action()
        os._exit(UNTOUCHED if seen <= number else FINISHED)
    except BaseException:
        os._exit(FAILED)


def places(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The paths that an audit event names; the removal of a tree names its files by the descriptor of their folder."""
    if event in ("os.remove", "os.rmdir") and arguments[-1] >= 0:
        return [str(Path(f"/proc/self/fd/{arguments[-1]}").readlink())]
    return [str(each) for each in arguments]


def state_of(registry: Registry) -> tuple[str | None, list[tuple[str, str]]]:
    champion = registry.champion()
    return champion.id if champion else None, [(each.event, each.version) for each in registry.history()]


def prepare(change: str, template: Registry, work: Path) -> tuple[Callable[[Registry], object], str, tuple[str, str]]:
    """Fills a registry for `change`; the change, the champion after it and the last event and version after it."""
    if change == "first promotion":
        parts = make_parts(work / "c", "c")
        return lambda registry: registry.promote(parts), version_of(parts), ("promoted", version_of(parts))
    a = template.promote(make_parts(work / "a", "a"))
    if change == "promotion":
        parts = make_parts(work / "c", "c", champion=a)
        return lambda registry: registry.promote(parts), version_of(parts), ("promoted", version_of(parts))
    if change == "refusal":
        parts = make_parts(work / "c", "c", champion=a, decision="refuse")
        return lambda registry: registry.add_refused(parts), a, ("refused", version_of(parts))
    template.promote(make_parts(work / "b", "b", champion=a))
    if change == "rollback":
        return lambda registry: registry.rollback(), a, ("rolled_back", a)
    return lambda registry: registry.promote_existing(a), a, ("promoted", a)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("rollback", "kill"),
        pytest.param("promotion", "kill", marks=pytest.mark.slow),
        pytest.param("promotion", "error", marks=pytest.mark.slow),
        pytest.param("rollback", "error", marks=pytest.mark.slow),
        pytest.param("first promotion", "kill", marks=pytest.mark.slow),
        pytest.param("first promotion", "error", marks=pytest.mark.slow),
        pytest.param("promotion by hand", "kill", marks=pytest.mark.slow),
        pytest.param("promotion by hand", "error", marks=pytest.mark.slow),
        pytest.param("refusal", "kill", marks=pytest.mark.slow),
        pytest.param("refusal", "error", marks=pytest.mark.slow),
    ],
)
def test_a_fault_in_any_file_operation_leaves_before_or_after(tmp_path: Path, change: str, fault: str) -> None:
    template = Registry(tmp_path / "template", "shop")
    action, champion_after, last = prepare(change, template, tmp_path / "work")
    champion_before, history_before = state_of(template)
    before, after = (champion_before, history_before), (champion_after, [*history_before, last])
    stopped = []
    for number in itertools.count():
        registry = Registry(tmp_path / f"at-{number}", "shop")
        if template.folder.exists():
            shutil.copytree(template.folder, registry.folder)

        code = run_until_operation(functools.partial(action, registry), number, root=registry.folder, fault=fault)

        state = state_of(registry)
        assert_consistent(registry)
        assert state in (before, after)
        if code == UNTOUCHED:
            break
        stopped.append("after" if state == after else "before")
        if state == before:
            action(registry)
            assert state_of(registry) == after
            assert_consistent(registry)
            assert not [path for path in registry.folder.rglob(".*") if path.name != ".lock"]
    assert state == after
    assert stopped.count("before") >= 3
    assert stopped.count("after") >= 1
    if fault == "kill":  # an error may be absorbed, as by the copying, which then goes another way
        assert stopped == sorted(stopped, reverse=True), "once the change is visible it stays"


@pytest.mark.parametrize("fault", ["kill", pytest.param("error", marks=pytest.mark.slow)])
def test_a_fault_in_any_file_operation_of_pruning_removes_a_version_whole_or_not_at_all(
    tmp_path: Path, fault: str
) -> None:
    template = Registry(tmp_path / "template", "shop")
    ids: dict[str, str] = {}
    for seed, decision in {"a": "promote", "b": "promote", "refused": "refuse", "c": "promote"}.items():
        champion = template.champion()
        parts = make_parts(tmp_path / seed, seed, champion=champion.id if champion else None, decision=decision)
        ids[seed] = template.promote(parts) if decision == "promote" else template.add_refused(parts)
    before, after = {*ids.values()}, {ids["b"], ids["c"]}
    lefts = []
    for number in itertools.count():
        registry = Registry(tmp_path / f"at-{number}", "shop")
        shutil.copytree(template.folder, registry.folder)

        code = run_until_operation(functools.partial(registry.prune, keep=1), number, root=registry.folder, fault=fault)

        left = {version.id for version in registry.versions()}
        assert_consistent(registry)
        assert state_of(registry) == state_of(template), "the champion stays, and so does every line of the history"
        assert after <= left <= before
        if code == UNTOUCHED:
            break
        lefts.append(left)
        registry.prune(keep=1)
        assert {version.id for version in registry.versions()} == after
        assert not [path for path in registry.folder.rglob(".*") if path.name != ".lock"]
        assert registry.rollback() == ids["b"]
        shutil.rmtree(registry.folder)
    assert left == after
    assert lefts.count(before) >= 3 and lefts.count(after) >= 10, "also while the files are deleted"
    assert {ids["a"], *after} in lefts, "the refused version goes first"


def test_sigkill_at_random_moments_never_shows_half_a_version(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    registry = Registry(root, "shop")
    moments = random.Random(7)
    for attempt in range(8):
        process = start_promoter(root, tmp_path / "work", f"p{attempt}", -1)
        go(process)
        time.sleep(moments.uniform(0.0, 0.25))
        process.kill()
        process.wait()
        assert_consistent(registry)
    champion = registry.champion()
    last = registry.promote(make_parts(tmp_path / "last", "last", champion=champion.id if champion else None))
    assert registry.champion().id == last  # type: ignore[union-attr]
    assert not list(registry.folder.rglob(".tmp-*"))


@pytest.fixture(params=["local", "on_bucket"])
def root(request: pytest.FixtureRequest) -> str:
    registry: Registry = request.getfixturevalue(request.param)
    return registry.place.removesuffix("/shop")


@pytest.mark.parametrize("rounds", [1, 12])
def test_promotions_at_once_end_with_one_winner_and_no_mixture(tmp_path: Path, root: str, rounds: int) -> None:
    processes = [start_promoter(root, tmp_path / "work", f"p{number}", rounds) for number in range(4)]
    for process in processes:
        go(process)
    won = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    registry = Registry(root, "shop")
    assert_consistent(registry)
    promoted = [decision for decision in registry.history() if decision.event == "promoted"]
    assert len(promoted) == sum(won)
    assert len({decision.version for decision in promoted}) == len(promoted)


def test_two_promotions_compared_with_the_same_champion_have_one_winner(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry", "shop")
    all_parts = [make_parts(tmp_path / name, name) for name in "ab"]
    children = []
    for parts in all_parts:
        child = os.fork()
        if not child:
            try:
                registry.promote(parts)
                os._exit(FINISHED)
            except BaseException:
                os._exit(FAILED)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [FINISHED, FAILED]
    assert registry.champion().id == version_of(all_parts[codes.index(FINISHED)])  # type: ignore[union-attr]
    assert_consistent(registry)
    assert len(registry.versions()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "killed"), [(60, False), (30, True)])
def test_promotions_rollbacks_and_prunings_at_once_lose_no_champion(
    tmp_path: Path, root: str, seconds: int, killed: bool
) -> None:
    """Four processes change the registry at random while this one reads it; with `killed` they are killed at random."""
    work, moments = tmp_path / "work", random.Random(11)
    if is_remote(root):
        seconds //= 3  # test_registry_on_a_bucket.py has what is special about a bucket
    registry = Registry(root, "shop")
    first = registry.promote(make_parts(work / "first", "first"))
    processes = [start(CHANGER, root, work, f"c{number}", seconds) for number in range(4)]
    for process in processes:
        go(process)
    looks, started, end, next_kill = 0, len(processes), time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        champion = registry.champion()
        assert champion is not None, "there is always a champion"
        assert_whole(champion)
        for version in registry.versions():
            assert_whole(version)
        looks += 1
        if killed and time.monotonic() > next_kill:
            victim = moments.randrange(len(processes))
            processes[victim].kill()
            processes[victim].communicate()
            processes[victim] = start(CHANGER, root, work, f"c{started}", end - time.monotonic())
            go(processes[victim])
            started, next_kill = started + 1, time.monotonic() + moments.uniform(0.0, 0.5)
    promoted = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert looks
    if killed:
        registry.prune(keep=8)
    assert_consistent(registry)
    assert not [path for path in registry.folder.rglob(".*") if path.name != ".lock"]
    alias = json.loads(read_file(registry, "champion.json"))
    lines = [json.loads(line) for line in read_file(registry, "history.jsonl").splitlines()]
    assert alias["decision"] in lines
    ever = [line["version"] for line in lines if line["event"] == "promoted" and line["reason"] != "promoted by hand"]
    assert ever[0] == first and len({*ever}) == len(ever), "the history forgets nobody"
    if not killed:
        assert len(ever) == 1 + sum(promoted)
    # On a bucket a promotion that is overtaken once its version is stored leaves that one for the next pruning.
    left = {version.id for version in registry.versions() if is_remote(root) and version.status == "undecided"}
    assert {version.id for version in registry.versions()} - left < {line["version"] for line in lines}, "some went"
