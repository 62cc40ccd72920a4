import json
import shutil
from pathlib import Path

import pytest
from registry_parts import CONFIG, PARTS, assert_consistent, make_parts, version_of, write_evaluation

from two_tower.artifacts import write_artifact
from two_tower.errors import ArtifactError, RegistryError
from two_tower.registry import Registry, version_id


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", "shop")


def promote(registry: Registry, folder: Path, seed: str) -> str:
    champion = registry.champion()
    return registry.promote(**make_parts(folder / seed, seed, champion=champion.id if champion else None))


def test_an_empty_registry_has_no_champion(registry: Registry) -> None:
    assert registry.champion() is None
    assert registry.versions() == []
    assert registry.history() == []


def test_promotion_stores_every_part(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "run", "a")
    version = registry.promote(**parts)
    assert version == version_of(parts)
    champion = registry.champion()
    assert champion is not None
    assert champion.id == version and champion.status == "champion"
    assert champion.folder == tmp_path / "registry" / "shop" / "versions" / version
    assert champion.config == CONFIG
    assert champion.metrics == {"recall@100": 0.25}
    assert champion.reason == "every check passed"
    assert champion.items.read_bytes() == b"items of a"
    for part in PARTS:
        copied = {path.relative_to(champion.folder / part): path.read_bytes()
                  for path in (champion.folder / part).rglob("*") if path.is_file()}  # fmt: skip
        source = {path.relative_to(parts[part]): path.read_bytes()
                  for path in parts[part].rglob("*") if path.is_file()}  # fmt: skip
        assert copied == source
    assert_consistent(registry)


def test_a_version_outlives_the_run_that_made_it(registry: Registry, tmp_path: Path) -> None:
    version = registry.promote(**make_parts(tmp_path / "run", "a"))
    shutil.rmtree(tmp_path / "run")
    registry.version(version).verify()


def test_training_goes_on_from_the_champions_towers(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="two_tower")
    assert registry.warm_start() is None
    assert "no champion yet to start from: training starts fresh" in caplog.text
    version = registry.version(promote(registry, tmp_path, "a"))
    assert registry.warm_start() == version.trained_towers == version.folder / "trained_towers"


def test_a_version_from_before_the_trained_towers_were_kept_still_serves(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="two_tower")
    a, b = (promote(registry, tmp_path, seed) for seed in "ab")
    for version in map(registry.version, (a, b)):
        shutil.rmtree(version.folder / "trained_towers")
        manifest = json.loads((version.folder / "manifest.json").read_text())
        del manifest["made_from"]["trained_towers"]
        manifest["files"] = {name: facts for name, facts in manifest["files"].items() if "trained_towers" not in name}
        (version.folder / "manifest.json").write_text(json.dumps(manifest))
    assert registry.version(b).trained_towers is None
    assert_consistent(registry)
    assert registry.warm_start() is None
    assert f"the champion {b} was stored without its trained towers: training starts fresh" in caplog.text
    assert registry.rollback() == a
    c = promote(registry, tmp_path, "c")
    assert registry.warm_start() == registry.version(c).folder / "trained_towers"


def test_equal_content_is_an_equal_id_and_equal_bytes(tmp_path: Path) -> None:
    stored = []
    for name in ("one", "two"):
        registry = Registry(tmp_path / name, "shop")
        version = registry.version(registry.promote(**make_parts(tmp_path / f"run-{name}", "a")))
        stored.append((version.id, (version.folder / "manifest.json").read_bytes()))
    assert stored[0] == stored[1]
    other = make_parts(tmp_path / "other", "b")
    assert version_of(other) != stored[0][0]


def test_promoting_the_champion_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "run", "a")
    version = registry.promote(**parts)
    before = {path: path.stat().st_mtime_ns for path in registry.folder.rglob("*") if path.is_file()}
    assert registry.promote(**parts) == version
    assert registry.promote_existing(version) == version
    assert {path: path.stat().st_mtime_ns for path in registry.folder.rglob("*") if path.is_file()} == before


def test_rollback_goes_back_one_champion_at_a_time(registry: Registry, tmp_path: Path) -> None:
    a, b, c = (promote(registry, tmp_path, seed) for seed in "abc")
    assert [version.id for version in registry.versions()] == [c, b, a]
    assert registry.rollback() == b
    assert {version.id: version.status for version in registry.versions()} == {a: "former", b: "champion", c: "former"}
    assert registry.rollback() == a
    with pytest.raises(RegistryError, match=f"no champion before {a}"):
        registry.rollback()
    assert registry.champion().id == a  # type: ignore[union-attr]
    assert [decision.event for decision in registry.history()] == ["promoted"] * 3 + ["rolled_back"] * 2
    assert_consistent(registry)


def test_a_version_can_return_after_a_rollback(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    b = promote(registry, tmp_path, "b")
    registry.rollback()
    assert registry.promote_existing(b, reason="the outage was not its fault") == b
    assert registry.champion().reason == "the outage was not its fault"  # type: ignore[union-attr]
    assert registry.rollback() == a
    assert promote(registry, tmp_path / "again", "b") == b
    assert_consistent(registry)


def test_rollback_without_a_champion_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="no champion"):
        registry.rollback()


def test_rollback_to_a_damaged_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    b = promote(registry, tmp_path, "b")
    (registry.version(a).index / "ids.parquet").write_bytes(b"rotten")
    with pytest.raises(ArtifactError, match=r"ids\.parquet"):
        registry.rollback()
    assert registry.champion().id == b  # type: ignore[union-attr]


def test_a_refused_challenger_is_kept_and_can_be_promoted_by_hand(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    refused = registry.add_refused(**make_parts(tmp_path / "b", "b", champion=a, decision="refuse"))
    assert registry.champion().id == a  # type: ignore[union-attr]
    assert (registry.version(refused).status, registry.version(refused).reason) == ("refused", "too low")
    assert_consistent(registry)
    registry.promote_existing(refused)
    assert registry.champion().id == refused  # type: ignore[union-attr]
    assert registry.rollback() == a


def test_what_the_gate_refused_is_not_promoted(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the gate refused it: too low"):
        registry.promote(**make_parts(tmp_path / "a", "a", decision="refuse"))
    assert registry.versions() == []


def test_the_champion_cannot_be_marked_refused(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    registry.promote(**parts)
    with pytest.raises(RegistryError, match="is the champion"):
        registry.add_refused(**parts)


def test_a_comparison_with_an_older_champion_is_stale(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "late", "late", champion=None)
    a = promote(registry, tmp_path, "a")
    with pytest.raises(RegistryError, match=f"compared with the champion None, but the champion is {a} now"):
        registry.promote(**parts)
    assert [version.id for version in registry.versions()] == [a]


@pytest.mark.parametrize("part", ["query_tower", "candidate_tower", "index", "trained_towers", "prepared"])
def test_a_mix_of_two_runs_is_refused_naming_both(registry: Registry, tmp_path: Path, part: str) -> None:
    parts = make_parts(tmp_path / "a", "a")
    other = make_parts(tmp_path / "b", "b")
    mixed = {**parts, part: other[part]}
    with pytest.raises(RegistryError, match="do not belong together") as caught:
        registry.promote(**mixed)
    assert str(other[part]) in str(caught.value)
    assert str(tmp_path / "a") in str(caught.value)
    assert not registry.folder.exists()


def test_the_same_towers_with_another_runs_index_are_a_mix(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    with write_artifact(tmp_path / "index", "index", made_from={"candidate_embeddings": "others"}):
        pass
    with pytest.raises(RegistryError, match="candidate_embeddings others"):
        version_id(parts["query_tower"], parts["candidate_tower"], tmp_path / "index")


def test_an_index_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    with write_artifact(tmp_path / "index", "index"):
        pass
    with pytest.raises(RegistryError, match="does not say which candidate_embeddings"):
        version_id(parts["query_tower"], parts["candidate_tower"], tmp_path / "index")


def test_the_evaluation_of_another_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    write_evaluation(parts["evaluation"], "0123456789abcdef", champion=None)
    with pytest.raises(RegistryError, match="the evaluation is of version 0123456789abcdef"):
        registry.promote(**parts)


@pytest.mark.parametrize("part", [*PARTS, "prepared"])
@pytest.mark.parametrize("damage", ["altered", "truncated", "missing", "manifest"])
def test_a_damaged_part_is_refused_and_nothing_stays(
    registry: Registry, tmp_path: Path, part: str, damage: str
) -> None:
    parts = make_parts(tmp_path / "a", "a")
    if damage == "manifest":
        (parts[part] / "manifest.json").unlink()
    else:
        victim = next(path for path in parts[part].rglob("*") if path.is_file() and path.name != "manifest.json")
        content = victim.read_bytes()
        if damage == "missing":
            victim.unlink()
        else:
            victim.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"\xff")
    with pytest.raises(ArtifactError, match=str(parts[part])):
        registry.promote(**parts)
    assert registry.champion() is None
    assert list(registry.folder.glob("versions/*")) == []


def test_a_damaged_version_is_stored_anew(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    promote(registry, tmp_path, "b")
    (registry.version(a).index / "ids.parquet").unlink()
    assert promote(registry, tmp_path / "again", "a") == a
    assert_consistent(registry)
    promote(registry, tmp_path, "c")
    assert list(registry.folder.glob("versions/.*")) == []


def test_what_a_killed_promotion_left_is_cleaned_by_the_next(registry: Registry, tmp_path: Path) -> None:
    leftover = registry.folder / "versions" / ".tmp-0123-77"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"x")
    (registry.folder / ".champion.json.77.tmp").write_bytes(b"{")
    assert registry.versions() == []
    promote(registry, tmp_path, "a")
    assert sorted(path.name for path in registry.folder.rglob(".*")) == [".lock"]


def test_an_unknown_version_names_those_there_are(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    with pytest.raises(RegistryError, match=f"no version 'nope'; there are: {a}"):
        registry.promote_existing("nope")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": "a"}', '{"version": "a", "previous": [], "decision": {}}']
)
def test_an_unreadable_alias_is_named(registry: Registry, tmp_path: Path, content: str) -> None:
    promote(registry, tmp_path, "a")
    (registry.folder / "champion.json").write_text(content)
    with pytest.raises(RegistryError, match=r"champion\.json: not a readable alias"):
        registry.champion()


def test_an_unreadable_line_of_the_history_is_named(registry: Registry, tmp_path: Path) -> None:
    promote(registry, tmp_path, "a")
    with (registry.folder / "history.jsonl").open("a") as file:
        file.write('{"event": \n')
    with pytest.raises(RegistryError, match=r"history\.jsonl:2"):
        registry.history()


def test_a_history_that_was_lost_keeps_the_champions_line(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    (registry.folder / "history.jsonl").unlink()
    assert [decision.version for decision in registry.history()] == [a]
    b = promote(registry, tmp_path, "b")
    lines = (registry.folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["version"] for line in lines] == [a, b]


def test_registries_of_two_configurations_are_apart(registry: Registry, tmp_path: Path) -> None:
    promote(registry, tmp_path, "a")
    assert Registry(tmp_path / "registry", "other").champion() is None


def test_a_full_disk_is_an_error_that_names_the_registry(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    parts = make_parts(tmp_path / "a", "a")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((RegistryError, ArtifactError), match="No space left on device"):
        registry.promote(**parts)
    monkeypatch.undo()
    assert list(registry.folder.glob("versions/*")) == []
    assert registry.promote(**parts)
