"""A registry on a bucket: promotions that meet, storage calls that fail, and what is brought to this machine."""

import contextlib
import functools
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from google.cloud.storage.retry import DEFAULT_RETRY
from registry_parts import assert_consistent, list_files, make_parts, read_file, remove_files, version_of, write_file
from registry_programs import RACER, start
from strict_bucket import BUCKET, StrictBucket

from two_tower.artifacts import below, bucket as access, describe_objects, list_objects, read_object
from two_tower.config import RetentionSettings
from two_tower.errors import ArtifactError, RegistryError
from two_tower.registry import Registry, on_bucket as storage_on_bucket

FINISHED, FAILED, UNTOUCHED, KILLED = 0, 1, 2, 9
SEND = requests.adapters.HTTPAdapter.send
CHANGES = ("first promotion", "promotion", "refusal", "rollback", "promotion by hand", "prune")


@contextlib.contextmanager
def at_call(number: int, fault: Callable[[Callable[[], requests.Response]], requests.Response]) -> Iterator[list[str]]:
    """What the client sends meanwhile; in place of call `number` (from 0) happens `fault`, which may make the call."""
    calls: list[str] = []
    lock = threading.Lock()

    def send(adapter: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> Any:
        if "?fields=name" in request.path_url:  # the client's own curiosity, now and then; it takes any answer
            return SEND(adapter, request, **options)
        with lock:
            calls.append(f"{request.method} {request.path_url}")
            mine = len(calls) == number + 1
        call = functools.partial(SEND, adapter, request, **options)
        return fault(call) if mine else call()

    requests.adapters.HTTPAdapter.send = send  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        requests.adapters.HTTPAdapter.send = SEND  # type: ignore[method-assign]


def answer(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"error": {"code": status, "message": "as ordered"}}).encode()
    response.headers["Content-Type"] = "application/json"
    response.request = requests.Request("GET", "http://storage").prepare()
    return response


def lose_reply(call: Callable[[], requests.Response]) -> requests.Response:
    call()
    raise requests.ConnectionError("the reply was lost")


FAULTS: dict[str, Callable[[Callable[[], requests.Response]], requests.Response]] = {
    "busy": lambda _: answer(503),
    "too many": lambda _: answer(429),
    "reply lost": lose_reply,
    "denied": lambda _: answer(403),
    "kill": lambda _: os._exit(KILLED),
    "kill after": lambda call: (call(), os._exit(KILLED))[0],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DEFAULT_RETRY, "_initial", 0.01)


def run(action: Callable[[], object], number: int, fault: str) -> int:
    """How `action` ends whose call `number` meets `fault`: UNTOUCHED where it makes fewer calls."""
    if not fault.startswith("kill"):
        with at_call(number, FAULTS[fault]) as calls:
            try:
                action()
            except RegistryError as error:
                assert "roles/storage.objectAdmin" in str(error)
                return FAILED
        return FINISHED if len(calls) > number else UNTOUCHED
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        access._client.cache_clear()  # its connections are the parent's
        with at_call(number, FAULTS[fault]) as calls:
            action()
        os._exit(FINISHED if len(calls) > number else UNTOUCHED)
    except BaseException:
        os._exit(FAILED)


def state_of(registry: Registry) -> tuple[str | None, list[tuple[str, str]], set[str]]:
    champion = registry.champion()
    decisions = [(each.event, each.version) for each in registry.history()]
    return champion.id if champion else None, decisions, {version.id for version in registry.versions()}


def assert_nothing_left_over(registry: Registry) -> None:
    there = list_objects(below(registry.place, "versions"))
    listed: set[str] = set()
    for version in registry.versions():
        manifest = json.loads(read_file(registry, f"versions/{version.id}/manifest.json"))
        listed |= {f"{version.id}/{name}" for name in [*manifest["files"], "manifest.json"]}
    assert there.keys() == listed


def promote(registry: Registry, folder: Path, seed: str) -> str:
    champion = registry.champion()
    return registry.promote(make_parts(folder / seed, seed, champion=champion.id if champion else None))


class Template:
    """A registry that is set up anew as often as it is needed."""

    def __init__(self, registry: Registry, storage: StrictBucket) -> None:
        self._storage = storage
        self._files = {name: read_object(below(registry.place, name))[0] for name in list_objects(registry.place)}  # type: ignore[index]

    def copy(self, root: str) -> Registry:
        registry = Registry(root, "shop")
        folder = str(registry.place).removeprefix(f"gs://{BUCKET}/")
        self._storage.fill({below(folder, name): content for name, content in self._files.items()})
        return registry


def prepare(
    change: str, registry: Registry, work: Path, storage: StrictBucket
) -> tuple[Template, Callable[[Registry], object]]:
    """The registry before `change` (champions a, b, but for the first promotion; r refused), and the change."""
    if change == "first promotion":
        parts = make_parts(work / "c", "c")
        return Template(registry, storage), lambda registry: registry.promote(parts)
    a, b = (promote(registry, work, seed) for seed in "ab")
    registry.add_refused(make_parts(work / "r", "r", champion=b, decision="refuse"))
    if change == "prune":
        promote(registry, work, "c")
        return Template(registry, storage), lambda registry: registry.prune(keep=1)
    template = Template(registry, storage)
    if change == "promotion":
        parts = make_parts(work / "c", "c", champion=b)
        return template, lambda registry: registry.promote(parts)
    if change == "refusal":
        refused = make_parts(work / "c", "c", champion=b, decision="refuse")
        return template, lambda registry: registry.add_refused(refused)
    if change == "rollback":
        return template, lambda registry: registry.rollback()
    return template, lambda registry: registry.promote_existing(a)


MET = [
    *itertools.product(["promotion"], sorted(FAULTS.keys() - {"too many"})),
    ("first promotion", "reply lost"),
    ("refusal", "too many"),
    ("rollback", "reply lost"),
    ("rollback", "kill after"),
    ("promotion by hand", "busy"),
    ("prune", "reply lost"),
    ("prune", "kill"),
]
"""The pairs of a change and a fault that are tried at every call; promotion, which every night does, with each but one,
which the client answers as it answers "busy"."""


@pytest.mark.parametrize(
    ("change", "fault"),
    [("rollback", "kill"), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in MET)],
)
def test_a_fault_in_any_storage_call_leaves_before_or_after(
    storage: StrictBucket, root_on_bucket: str, tmp_path: Path, change: str, fault: str
) -> None:
    template, action = prepare(change, Registry(f"{root_on_bucket}/template", "shop"), tmp_path, storage)
    undisturbed = template.copy(f"{root_on_bucket}/undisturbed")
    before = state_of(undisturbed)
    action(undisturbed)
    after = state_of(undisturbed)
    codes = []
    for number in itertools.count():
        registry = template.copy(f"{root_on_bucket}/{number}")
        code = run(functools.partial(action, registry), number, fault)
        champion, history, _ = state = state_of(registry)
        assert_consistent(registry)
        assert (champion, history) in (before[:2], after[:2])
        if code == UNTOUCHED:
            break
        codes.append(code)
        if fault.startswith("kill") or fault == "denied":
            assert code != FINISHED
        else:
            assert (code, state) == (FINISHED, after), "the client tries again"
        if change != "rollback" or state != after:  # rolling back once more would be another decision
            action(registry)
        assert state_of(registry) == after
        assert_consistent(registry)
        if change == "prune":
            assert_nothing_left_over(registry)
    assert state == after
    assert len(codes) >= 8


OTHERS: dict[str, Callable[[Registry, Path], object]] = {
    "prune": lambda registry, _: registry.prune(keep=1),
    "promotion": lambda registry, work: promote(registry, work, "other"),
    "rollback": lambda registry, _: registry.rollback(),
    "same, refused": lambda registry, work: registry.add_refused(
        make_parts(work / "same", "c", champion="of another comparison", decision="refuse")
    ),
}
EXPECTED = ("run again to compare", "no champion before", "no version", "is the champion; roll back")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "other"),
    [
        *itertools.product(["promotion"], OTHERS),
        ("prune", "promotion"),
        ("rollback", "promotion"),
        ("refusal", "prune"),
        ("promotion by hand", "prune"),
    ],
)
def test_another_change_at_any_moment_of_a_change_spoils_neither(
    storage: StrictBucket, root_on_bucket: str, tmp_path: Path, change: str, other: str
) -> None:
    template, action = prepare(change, Registry(f"{root_on_bucket}/template", "shop"), tmp_path, storage)
    if change == "promotion by hand":  # of the version that the pruning removes
        (refused,) = {version.id for version in template.copy(f"{root_on_bucket}/look").versions()
                      if version.status == "refused"}  # fmt: skip
        action = lambda registry: registry.promote_existing(refused)  # noqa: E731
        promoting_c = make_parts(tmp_path / "c", "c", champion=version_of(make_parts(tmp_path / "b2", "b")))
        source = template.copy(f"{root_on_bucket}/source")
        source.promote(promoting_c)
        template = Template(source, storage)
    outcomes = set()
    for number in itertools.count():
        registry = template.copy(f"{root_on_bucket}/{number}")
        again = Registry(f"{root_on_bucket}/{number}", "shop")

        def meanwhile(call: Callable[[], requests.Response], again: Registry = again) -> requests.Response:
            with contextlib.suppress(RegistryError):
                OTHERS[other](again, tmp_path)
            return call()

        served_before = registry.champion()
        with at_call(number, meanwhile) as calls:
            try:
                action(registry)
                outcomes.add("done")
            except RegistryError as error:
                assert any(expected in str(error) for expected in EXPECTED), error
                outcomes.add("refused")
        assert_consistent(registry)
        assert registry.champion() is not None or served_before is None
        lines = read_file(registry, "history.jsonl").splitlines() if list_files(registry.place) else []
        assert len({*lines}) == len(lines)
        if len(calls) <= number:
            break
    assert "done" in outcomes


def test_of_promotions_compared_with_the_same_champion_one_wins_each_round(root_on_bucket: str, tmp_path: Path) -> None:
    racers = [start(RACER, root_on_bucket, tmp_path, name, 0) for name in ("p", "q", "r")]
    registry = Registry(root_on_bucket, "shop")
    champions: list[str] = []

    def tell(line: str) -> None:
        for racer in racers:
            racer.stdin.write(f"{line}\n")  # type: ignore[union-attr]
            racer.stdin.flush()  # type: ignore[union-attr]

    def hear() -> list[str]:
        return [racer.stdout.readline().strip() for racer in racers]  # type: ignore[union-attr]

    for _ in range(8):
        tell(champions[-1] if champions else "")
        assert hear() == ["prepared"] * len(racers)
        tell("go")
        said = hear()
        champion = registry.champion()
        assert champion is not None
        assert said.count(champion.id) == 1
        refused = f"was compared with the champion {champions[-1] if champions else None}, but the champion is"
        assert sum(refused in line for line in said) == len(racers) - 1
        champions.append(champion.id)
    for racer in racers:
        racer.communicate(timeout=60)
    assert [decision.version for decision in registry.history()] == champions
    assert json.loads(read_file(registry, "champion.json"))["previous"] == champions[:-1]
    assert_consistent(registry)


def test_a_promotion_whose_reply_was_lost_and_that_was_followed_is_not_repeated(
    on_bucket: Registry, root_on_bucket: str, tmp_path: Path
) -> None:
    a = promote(on_bucket, tmp_path, "a")
    parts = make_parts(tmp_path / "b", "b", champion=a)
    other, followed = Registry(root_on_bucket, "shop"), []
    real = on_bucket._storage.write_alias

    def write_alias(alias: Any, held: Any) -> None:
        real(alias, held)
        followed.append(promote(other, tmp_path, "c"))
        real(alias, held)  # as the client does that has heard nothing

    on_bucket._storage.write_alias = write_alias  # type: ignore[method-assign]
    b = on_bucket.promote(parts)
    assert [decision.version for decision in on_bucket.history()] == [a, b, *followed]
    assert other.champion().id == followed[0]  # type: ignore[union-attr]
    assert_consistent(other)


def test_the_same_version_is_uploaded_once(
    storage: StrictBucket, on_bucket: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (promote(on_bucket, tmp_path, seed) for seed in "ab")
    on_bucket.rollback()
    before = list_files(below(on_bucket.place, "versions"))
    on_bucket.promote(make_parts(tmp_path / "again", "b", champion=a))
    assert list_files(below(on_bucket.place, "versions")) == before
    assert on_bucket.champion().id == b  # type: ignore[union-attr]


def test_a_killed_upload_is_resumed(on_bucket: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    assert run(lambda: on_bucket.promote(parts), 12, "kill") == KILLED
    half = list_files(below(on_bucket.place, "versions"))
    assert half and on_bucket.versions() == []
    on_bucket.promote(parts)
    assert half.items() <= list_files(below(on_bucket.place, "versions")).items()
    assert_nothing_left_over(on_bucket)


def test_what_an_upload_of_other_files_left_is_replaced(on_bucket: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    version = version_of(parts)
    for name in ("evaluation/metrics.json", "index/stray"):
        write_file(on_bucket, f"versions/{version}/{name}", b"of another run")
    on_bucket.promote(parts)
    assert_consistent(on_bucket)
    assert_nothing_left_over(on_bucket)


def test_leftovers_go_once_they_are_a_day_old(
    on_bucket: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = promote(on_bucket, tmp_path, "a")
    write_file(on_bucket, "versions/0123456789abcdef/index/ids.parquet", b"half an upload")
    on_bucket.keep_to(RetentionSettings(keep=1))
    assert "0123456789abcdef/index/ids.parquet" in list_objects(below(on_bucket.place, "versions"))
    monkeypatch.setattr(storage_on_bucket, "LEFTOVERS_STAY", timedelta(0))
    on_bucket.keep_to(RetentionSettings(keep=1))
    assert_nothing_left_over(on_bucket)
    assert on_bucket.champion().id == a  # type: ignore[union-attr]
    assert json.loads(read_file(on_bucket, "champion.json"))["removing"] == {}


def test_parts_are_brought_here_singly_and_once(storage: StrictBucket, on_bucket: Registry, tmp_path: Path) -> None:
    champion = on_bucket.version(promote(on_bucket, tmp_path, "a"))
    storage.requests.clear()
    assert (champion.evaluation / "metrics.json").is_file()
    assert champion.config and champion.trained_towers_place and on_bucket.warm_start()
    assert champion.items.read_bytes() == b"items of a"
    brought = [path for method, path in storage.requests if "alt=media" in path and "versions" in path]
    assert {path.split("%2F")[-1].partition("?")[0] for path in brought} == {
        "manifest.json", "metrics.json", "items.parquet"
    }  # fmt: skip
    assert not any("index" in path or "tower" in path for path in brought)
    storage.requests.clear()
    assert champion.evaluation.parent == champion.folder
    assert not any("metrics.json" in path for _, path in storage.requests), "it is here already"
    assert (champion.query_tower / "manifest.json").read_bytes() == (
        tmp_path / "a/query_tower/manifest.json"
    ).read_bytes()


def test_what_comes_damaged_is_refused(on_bucket: Registry, tmp_path: Path) -> None:
    version = promote(on_bucket, tmp_path, "a")
    write_file(on_bucket, f"versions/{version}/index/ids.parquet", b"ids of b")
    found = on_bucket.version(version)
    assert found.evaluation.is_dir()
    with pytest.raises(ArtifactError, match=r"index/ids\.parquet: differs from what the manifest lists"):
        _ = found.index
    remove_files(on_bucket, f"versions/{version}/index/ids.parquet")
    with pytest.raises(ArtifactError, match=r"index/ids\.parquet"):
        _ = found.folder
    remove_files(on_bucket, f"versions/{version}/manifest.json")
    with pytest.raises(ArtifactError, match=r"no manifest\.json here"):
        _ = found.evaluation


def test_the_copies_go_with_the_process(on_bucket: Registry, root_on_bucket: str, tmp_path: Path) -> None:
    promote(on_bucket, tmp_path, "a")
    program = f"from two_tower.registry import Registry; print(Registry({root_on_bucket!r}, 'shop').champion().folder)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout  # fmt: skip
    assert said.startswith(str(tmp_path)) and said.strip().endswith(f"shop/versions/{on_bucket.versions()[0].id}")
    assert not list(tmp_path.glob("two-tower-*"))


def test_a_mount_of_the_bucket_is_the_bucket(on_bucket: Registry, root_on_bucket: str, tmp_path: Path) -> None:
    a = promote(on_bucket, tmp_path, "a")
    mounted = Registry(Path(root_on_bucket.replace("gs://", "/gcs/")), "shop")
    assert mounted.place == on_bucket.place
    assert mounted.champion().id == a  # type: ignore[union-attr]


def test_generations_say_what_may_be_removed(on_bucket: Registry) -> None:
    write_file(on_bucket, "x", b"old")
    old = describe_objects(on_bucket.place)["x"].generation
    write_file(on_bucket, "x", b"new")
    access.remove_objects(on_bucket.place, {"x": old})
    assert read_file(on_bucket, "x") == b"new"
