import errno
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from registry_parts import (
    CONFIG,
    PARTS,
    assert_consistent,
    list_files,
    make_parts,
    read_file,
    remove_files,
    version_of,
    write_evaluation,
    write_file,
)

from two_tower.artifacts import below, write_artifact
from two_tower.config import RetentionSettings
from two_tower.errors import ArtifactError, RegistryError
from two_tower.registry import Registry, Version, list_registries, version_id


def promote(registry: Registry, folder: Path, seed: str) -> str:
    champion = registry.champion()
    return registry.promote(make_parts(folder / seed, seed, champion=champion.id if champion else None))


def test_an_empty_registry_has_no_champion(registry: Registry) -> None:
    assert registry.champion() is None
    assert registry.versions() == []
    assert registry.history() == []


def test_promotion_stores_every_part(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "run", "a")
    version = registry.promote(parts)
    assert version == version_of(parts)
    champion = registry.champion()
    assert champion is not None
    assert champion.id == version and champion.status == "champion"
    assert champion.place == below(registry.place, f"versions/{version}")
    assert champion.folder.parts[-3:] == ("shop", "versions", version)
    assert champion.config == CONFIG
    assert champion.metrics == {"recall@100": 0.25}
    assert champion.reason == "every check passed"
    assert champion.items.read_bytes() == b"items of a"
    for part in PARTS:
        copied = {path.relative_to(champion.folder / part): path.read_bytes()
                  for path in (champion.folder / part).rglob("*") if path.is_file()}  # fmt: skip
        folder = getattr(parts, part)
        source = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert copied == source
    assert_consistent(registry)


def test_a_version_outlives_the_run_that_made_it(registry: Registry, tmp_path: Path) -> None:
    version = registry.promote(make_parts(tmp_path / "run", "a"))
    shutil.rmtree(tmp_path / "run")
    registry.version(version).verify()


def test_training_goes_on_from_the_champions_towers(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="two_tower")
    assert registry.warm_start() is None
    assert "no champion yet to start from: training starts fresh" in caplog.text
    version = registry.version(promote(registry, tmp_path, "a"))
    assert registry.warm_start() == version.trained_towers_place == below(str(version.place), "trained_towers")
    assert version.trained_towers == version.folder / "trained_towers"


def test_a_version_from_before_the_trained_towers_were_kept_still_serves(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="two_tower")
    a, b = (promote(registry, tmp_path, seed) for seed in "ab")
    for version in (a, b):
        remove_files(registry, f"versions/{version}/trained_towers")
        manifest = json.loads(read_file(registry, f"versions/{version}/manifest.json"))
        del manifest["made_from"]["trained_towers"]
        manifest["files"] = {name: facts for name, facts in manifest["files"].items() if "trained_towers" not in name}
        write_file(registry, f"versions/{version}/manifest.json", json.dumps(manifest).encode())
    assert registry.version(b).trained_towers is registry.version(b).trained_towers_place is None
    assert_consistent(registry)
    assert registry.warm_start() is None
    assert f"the champion {b} was stored without its trained towers: training starts fresh" in caplog.text
    assert registry.rollback() == a
    c = promote(registry, tmp_path, "c")
    assert registry.warm_start() == below(registry.place, f"versions/{c}/trained_towers")


def test_equal_content_is_an_equal_id_and_equal_bytes_wherever_it_lies(
    local: Registry, on_bucket: Registry, tmp_path: Path
) -> None:
    stored = []
    for number, registry in enumerate((local, on_bucket)):
        version = registry.version(registry.promote(make_parts(tmp_path / f"run-{number}", "a")))
        stored.append((version.id, read_file(registry, f"versions/{version.id}/manifest.json")))
    assert stored[0] == stored[1]
    other = make_parts(tmp_path / "other", "b")
    assert version_of(other) != stored[0][0]


def test_promoting_the_champion_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "run", "a")
    version = registry.promote(parts)
    before = list_files(registry.place)
    assert registry.promote(parts) == version
    assert registry.promote_existing(version) == version
    assert list_files(registry.place) == before


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
    write_file(registry, f"versions/{a}/index/ids.parquet", b"rotten")
    with pytest.raises(ArtifactError, match=r"ids\.parquet"):
        registry.rollback()
    assert registry.champion().id == b  # type: ignore[union-attr]


def test_a_refused_challenger_is_kept_and_can_be_promoted_by_hand(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    refused = registry.add_refused(make_parts(tmp_path / "b", "b", champion=a, decision="refuse"))
    assert registry.champion().id == a  # type: ignore[union-attr]
    assert (registry.version(refused).status, registry.version(refused).reason) == ("refused", "too low")
    assert_consistent(registry)
    registry.promote_existing(refused)
    assert registry.champion().id == refused  # type: ignore[union-attr]
    assert registry.rollback() == a


def test_what_the_gate_refused_is_not_promoted(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the gate refused it: too low"):
        registry.promote(make_parts(tmp_path / "a", "a", decision="refuse"))
    assert registry.versions() == []


def test_the_champion_cannot_be_marked_refused(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    registry.promote(parts)
    with pytest.raises(RegistryError, match="is the champion"):
        registry.add_refused(parts)


def test_what_the_gate_let_through_is_not_marked_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the gate did not refuse it: every check passed"):
        registry.add_refused(make_parts(tmp_path / "a", "a"))
    assert registry.versions() == []


def test_a_comparison_with_an_older_champion_is_stale(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "late", "late", champion=None)
    a = promote(registry, tmp_path, "a")
    with pytest.raises(RegistryError, match=f"compared with the champion None, but the champion is {a} now"):
        registry.promote(parts)
    assert [version.id for version in registry.versions()] == [a]


@pytest.mark.parametrize("part", ["query_tower", "candidate_tower", "index", "trained_towers", "prepared"])
def test_a_mix_of_two_runs_is_refused_naming_both(registry: Registry, tmp_path: Path, part: str) -> None:
    parts = make_parts(tmp_path / "a", "a")
    other = make_parts(tmp_path / "b", "b")
    mixed = replace(parts, **{part: getattr(other, part)})
    with pytest.raises(RegistryError, match="do not belong together") as caught:
        registry.promote(mixed)
    assert str(getattr(other, part)) in str(caught.value)
    assert str(tmp_path / "a") in str(caught.value)
    assert list_files(registry.place) == {}


def test_the_same_towers_with_another_runs_index_are_a_mix(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    with write_artifact(tmp_path / "index", "index", made_from={"candidate_embeddings": "others"}):
        pass
    with pytest.raises(RegistryError, match="candidate_embeddings others"):
        version_id(parts.query_tower, parts.candidate_tower, tmp_path / "index")


def test_an_index_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    with write_artifact(tmp_path / "index", "index"):
        pass
    with pytest.raises(RegistryError, match="does not say which candidate_embeddings"):
        version_id(parts.query_tower, parts.candidate_tower, tmp_path / "index")


def test_the_evaluation_of_another_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "a", "a")
    write_evaluation(parts.evaluation, "0123456789abcdef", champion=None)
    with pytest.raises(RegistryError, match="the evaluation is of version 0123456789abcdef"):
        registry.promote(parts)


@pytest.mark.parametrize("part", [*PARTS, "prepared"])
@pytest.mark.parametrize("damage", ["altered", "truncated", "missing", "manifest"])
def test_a_damaged_part_is_refused_and_nothing_stays(
    registry: Registry, tmp_path: Path, part: str, damage: str
) -> None:
    parts = make_parts(tmp_path / "a", "a")
    folder = getattr(parts, part)
    if damage == "manifest":
        (folder / "manifest.json").unlink()
    else:
        victim = next(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
        content = victim.read_bytes()
        if damage == "missing":
            victim.unlink()
        else:
            victim.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"\xff")
    with pytest.raises(ArtifactError, match=str(folder)):
        registry.promote(parts)
    assert registry.champion() is None
    assert list_files(below(registry.place, "versions")) == {}


def test_a_damaged_version_is_stored_anew(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    promote(registry, tmp_path, "b")
    remove_files(registry, f"versions/{a}/index/ids.parquet")
    assert promote(registry, tmp_path / "again", "a") == a
    assert_consistent(registry)
    promote(registry, tmp_path, "c")
    assert not [name for name in list_files(registry.place) if name.startswith("versions/.")]


def test_what_a_killed_promotion_left_is_cleaned_by_the_next(local: Registry, tmp_path: Path) -> None:
    leftover = local.folder / "versions" / ".tmp-0123-77"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"x")
    (local.folder / ".champion.json.77.tmp").write_bytes(b"{")
    assert local.versions() == []
    promote(local, tmp_path, "a")
    assert sorted(path.name for path in local.folder.rglob(".*")) == [".lock"]


def test_an_unknown_version_names_those_there_are(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    with pytest.raises(RegistryError, match=f"no version 'nope'; there are: {a}"):
        registry.promote_existing("nope")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": "a"}', '{"version": "a", "previous": [], "decision": {}}']
)
def test_an_unreadable_alias_is_named(registry: Registry, tmp_path: Path, content: str) -> None:
    promote(registry, tmp_path, "a")
    write_file(registry, "champion.json", content.encode())
    with pytest.raises(RegistryError, match=r"champion\.json: not a readable alias"):
        registry.champion()


def test_an_unreadable_line_of_the_history_is_named(registry: Registry, tmp_path: Path) -> None:
    promote(registry, tmp_path, "a")
    write_file(registry, "history.jsonl", read_file(registry, "history.jsonl") + b'{"event": \n')
    with pytest.raises(RegistryError, match=r"history\.jsonl:2"):
        registry.history()


def test_a_history_that_is_no_text_is_named(registry: Registry, tmp_path: Path) -> None:
    promote(registry, tmp_path, "a")
    write_file(registry, "history.jsonl", b"\x00\xff")
    with pytest.raises(RegistryError, match=r"history\.jsonl: not UTF-8 text"):
        registry.history()


def test_a_history_that_was_lost_keeps_the_champions_line(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    remove_files(registry, "history.jsonl")
    assert [decision.version for decision in registry.history()] == [a]
    b = promote(registry, tmp_path, "b")
    lines = read_file(registry, "history.jsonl").splitlines()
    assert [json.loads(line)["version"] for line in lines] == [a, b]


def test_registries_of_two_configurations_are_apart(registry: Registry, tmp_path: Path) -> None:
    promote(registry, tmp_path, "a")
    assert Registry(registry.place.removesuffix("/shop"), "other").champion() is None
    assert [each.name for each in list_registries(registry.place.removesuffix("/shop"))] == ["shop"]


def test_a_full_disk_is_an_error_that_names_the_registry(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts(tmp_path / "a", "a")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((RegistryError, ArtifactError), match="No space left on device"):
        local.promote(parts)
    monkeypatch.undo()
    assert list(local.folder.glob("versions/*")) == []
    assert local.promote(parts)


def refuse(registry: Registry, folder: Path, seed: str) -> str:
    champion = registry.champion()
    parts = make_parts(folder / seed, seed, champion=champion.id if champion else None, decision="refuse")
    return registry.add_refused(parts)


def stored(registry: Registry) -> set[str]:
    return {version.id for version in registry.versions()}


def test_pruning_keeps_former_champions_before_refused_versions(registry: Registry, tmp_path: Path) -> None:
    a, b = (promote(registry, tmp_path, seed) for seed in "ab")
    r, s = (refuse(registry, tmp_path, seed) for seed in "rs")
    c, d = (promote(registry, tmp_path, seed) for seed in "cd")
    t = refuse(registry, tmp_path, "t")
    order = [d, t, c, b, a, s, r]
    for keep in range(7, 0, -1):
        decided = registry.prune(keep=keep, dry_run=True)
        stays = {each.version.id for each in decided if each.stays}
        assert stays == {d, t, c} | set(order[:keep]), f"with {keep} places"
    assert [each.version.id for each in decided[3:]] == order[3:]
    assert {each.version.id: each.reason for each in decided[:4]} == {
        d: "the champion",
        c: "the champion before this one",
        t: "the latest decision is about it",
        b: "beyond the 1 that stay",
    }
    assert stored(registry) == set(order), "a dry run removes nothing"
    assert all(each.stays for each in registry.prune(keep=None))
    registry.prune(keep=4)
    assert stored(registry) == {d, t, c, b}
    assert_consistent(registry)


def test_young_versions_stay_whatever_their_number(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {}
    for age in range(9, 3, -1):
        moment = datetime.now(UTC) - timedelta(days=age, hours=1)
        monkeypatch.setattr("two_tower.registry.decisions.now", moment.isoformat)
        ids[age] = promote(registry, tmp_path, f"v{age}")
    reasons = {each.version.id: each.reason for each in registry.prune(keep=1, days=7)}
    assert stored(registry) == {ids[4], ids[5], ids[6]}
    assert reasons[ids[6]] == "younger than 7 days"
    assert reasons[ids[7]] == "beyond the 1 that stay, and not younger than 7 days"
    registry.prune(keep=3, days=0)
    assert stored(registry) == {ids[4], ids[5], ids[6]}, "the number is what stays at least"
    registry.prune(keep=1, days=0)
    assert stored(registry) == {ids[4], ids[5]}


def test_rollback_skips_what_was_removed(registry: Registry, tmp_path: Path) -> None:
    a, b = (promote(registry, tmp_path, seed) for seed in "ab")
    registry.promote_existing(a)
    c = promote(registry, tmp_path, "c")
    registry.promote_existing(a)
    d = promote(registry, tmp_path, "d")
    registry.prune(keep=3)  # a b a c a d, without b
    assert stored(registry) == {d, a, c}
    assert_consistent(registry)
    assert [registry.rollback() for _ in range(3)] == [a, c, a], "b is skipped, and a does not follow itself"
    with pytest.raises(RegistryError, match="no champion before"):
        registry.rollback()
    assert b not in stored(registry)


def test_the_champion_before_this_one_stays_when_the_others_go(registry: Registry, tmp_path: Path) -> None:
    ids = [promote(registry, tmp_path, seed) for seed in "abcde"]
    for _ in range(2):
        registry.prune(keep=1)
        assert stored(registry) == set(ids[-2:])
    assert registry.rollback() == ids[-2]
    assert stored(registry) == set(ids[-2:])
    registry.prune(keep=1)
    assert stored(registry) == {ids[-2]}, "what was rolled back has no claim but its place"
    with pytest.raises(RegistryError, match="no champion before"):
        registry.rollback()


def test_the_history_outlives_the_versions_that_it_tells_of(registry: Registry, tmp_path: Path) -> None:
    ids = [promote(registry, tmp_path, seed) for seed in "abcd"]
    lines = read_file(registry, "history.jsonl")
    registry.prune(keep=1)
    assert read_file(registry, "history.jsonl") == lines
    assert [decision.version for decision in registry.history()] == ids
    assert [version.id for version in registry.versions()] == [ids[3], ids[2]]
    with pytest.raises(RegistryError, match=f"no version '{ids[0]}'; there are: {ids[3]}, {ids[2]}"):
        registry.promote_existing(ids[0])
    again = promote(registry, tmp_path / "again", "a")
    assert again == ids[0] and registry.champion().id == again  # type: ignore[union-attr]
    assert_consistent(registry)


def test_no_version_needs_another_or_the_run_that_made_it(registry: Registry, tmp_path: Path) -> None:
    """So pruning has nothing to follow: a version is a copy, and names what it was made from by hashes alone."""
    ids = [promote(registry, tmp_path, seed) for seed in "abc"]
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")
    registry.prune(keep=1)
    for id_ in ids[1:]:
        version = registry.version(id_)
        version.verify()
        for path in version.folder.rglob("*"):
            assert not path.is_symlink() and (path.is_dir() or path.stat().st_nlink == 1)
            assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()


def test_nothing_is_removed_where_the_champion_is_not_known_for_sure(registry: Registry, tmp_path: Path) -> None:
    ids = [promote(registry, tmp_path, seed) for seed in "abc"]
    alias = read_file(registry, "champion.json")
    remove_files(registry, "champion.json")
    with pytest.raises(RegistryError, match=r"champion\.json: missing, although there was a champion"):
        registry.prune(keep=1)
    write_file(registry, "champion.json", b"{")
    with pytest.raises(RegistryError, match=r"champion\.json: not a readable alias"):
        registry.prune(keep=1)
    write_file(registry, "champion.json", alias)
    manifest = read_file(registry, f"versions/{ids[2]}/manifest.json")
    remove_files(registry, f"versions/{ids[2]}/manifest.json")
    with pytest.raises(RegistryError, match=f"the champion {ids[2]} is not among the versions"):
        registry.prune(keep=1)
    write_file(registry, f"versions/{ids[2]}/manifest.json", manifest)
    assert stored(registry) == set(ids)


def test_a_history_that_was_lost_does_not_cost_the_champions_before(registry: Registry, tmp_path: Path) -> None:
    ids = [promote(registry, tmp_path, seed) for seed in "abc"]
    refused = refuse(registry, tmp_path, "r")
    remove_files(registry, "history.jsonl")
    assert {version.id: version.status for version in registry.versions()} == {
        ids[2]: "champion", ids[1]: "former", ids[0]: "former", refused: "undecided"
    }  # fmt: skip
    registry.prune(keep=3)
    assert stored(registry) == set(ids)


def test_an_undecided_version_is_as_old_as_its_manifest(local: Registry, tmp_path: Path) -> None:
    for seed in "ab":
        promote(local, tmp_path, seed)
    undecided = local.folder / "versions" / "0123456789abcdef"
    shutil.copytree(local.champion().folder, undecided)  # type: ignore[union-attr]
    assert all(each.stays for each in local.prune(keep=1, days=1))
    os.utime(undecided / "manifest.json", (0, 0))
    assert [each.version.id for each in local.prune(keep=1, days=1) if not each.stays] == [undecided.name]


def test_a_registry_of_refused_versions_alone_is_pruned(registry: Registry, tmp_path: Path) -> None:
    assert registry.prune(keep=1) == []
    assert list_files(registry.place) == {}
    r, s, t = (refuse(registry, tmp_path, seed) for seed in "rst")
    registry.prune(keep=2)
    assert stored(registry) == {s, t}
    registry.prune(keep=1)
    assert stored(registry) == {t}
    assert r not in stored(registry)


def test_refusing_for_the_same_reason_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    a = promote(registry, tmp_path, "a")
    parts = make_parts(tmp_path / "b", "b", champion=a, decision="refuse")
    refused = registry.add_refused(parts)
    lines = read_file(registry, "history.jsonl")
    assert registry.add_refused(parts) == refused
    assert read_file(registry, "history.jsonl") == lines
    registry.promote_existing(refused)
    registry.rollback()
    registry.add_refused(parts)
    assert [decision.event for decision in registry.history()][-3:] == ["promoted", "rolled_back", "refused"]


def test_a_version_that_cannot_be_removed_spoils_no_decision(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [promote(local, tmp_path, seed) for seed in "abc"]

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a file of somebody else")

    monkeypatch.setattr(shutil, "rmtree", refused)
    with pytest.raises(RegistryError, match="a file of somebody else: cannot change the registry"):
        local.prune(keep=1)
    monkeypatch.undo()
    local.keep_to(RetentionSettings(keep=1))
    assert stored(local) == set(ids[1:])
    (local.folder / "champion.json").unlink()
    local.keep_to(RetentionSettings(keep=1))
    assert "no old version was removed, see to it" in caplog.text
    assert stored(local) == set(ids[1:])


def test_the_champion_is_found_though_its_predecessor_vanishes_meanwhile(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that was held up between the alias and the version, while two champions followed."""
    a = promote(registry, tmp_path, "a")
    other, real = Registry(registry.place.removesuffix("/shop"), "shop"), registry.version

    def held_up(version: str) -> Version:
        if version == a:
            promote(other, tmp_path, "b")
            promote(other, tmp_path, "c")
            other.prune(keep=1)
        return real(version)

    monkeypatch.setattr(registry, "version", held_up)
    found = registry.champion()
    assert found is not None and found.status == "champion" and found.id != a
