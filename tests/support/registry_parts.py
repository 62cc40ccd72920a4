"""Small artefacts that look to the registry like a run's outputs, and what has to hold of any registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from two_tower.artifacts import (
    below,
    content_hash,
    describe_objects,
    is_remote,
    list_objects,
    read_object,
    remove_objects,
    write_artifact,
    write_object,
)
from two_tower.errors import ArtifactError
from two_tower.registry import Registry, Version, VersionParts, version_id

REASONS = {"promote": "every check passed", "refuse": "too low"}
CONFIG = {"name": "shop", "model": {"dim": 8}}
ORIGINS = {"prepared_data": "prepared", "trained_towers": "trained_towers"}
PARTS = ("query_tower", "candidate_tower", "index", "evaluation", "trained_towers")
"""What is copied into a version as it is."""
_looked_at: set[tuple[str, bytes]] = set()
"""The ids and manifests of versions whose content, which the manifest lists with its checksums, was found to fit."""


def make_parts(folder: Path, seed: str, *, champion: str | None = None, decision: str = "promote") -> VersionParts:
    """What `Registry.promote` takes for a version whose content depends on `seed`."""
    with write_artifact(folder / "prepared", "prepared_data", data_seen_until=1_000) as out:
        out.path("items.parquet").write_bytes(b"items of " + seed.encode())
    with write_artifact(folder / "trained_towers", "trained_towers") as out:
        out.path("towers.npz").write_bytes(b"weights of " + seed.encode())
    trained = {name: content_hash(folder / short) for name, short in ORIGINS.items()}
    with write_artifact(folder / "candidate_tower", "candidate_tower", made_from=trained) as out:
        out.path("saved_model/saved_model.pb").write_bytes(b"candidate " + seed.encode())
    embeddings = {
        **trained,
        "candidate_tower": content_hash(folder / "candidate_tower"),
        "candidate_embeddings": f"e{seed}",
    }
    with write_artifact(folder / "query_tower", "query_tower", made_from=embeddings, data_seen_until=1_000) as out:
        out.path("saved_model/saved_model.pb").write_bytes(b"query " + seed.encode())
        out.path("saved_model/variables/variables.data").write_bytes(bytes(range(256)) * 40)
    with write_artifact(folder / "index", "index", made_from=embeddings) as out:
        out.path("ids.parquet").write_bytes(b"ids of " + seed.encode())
    version = version_id(folder / "query_tower", folder / "candidate_tower", folder / "index")
    write_evaluation(folder / "evaluation", version, champion=champion, decision=decision)
    return VersionParts(**{name: folder / name for name in (*PARTS, "prepared")}, config=CONFIG)


def write_evaluation(folder: Path, version: str, *, champion: str | None, decision: str = "promote") -> None:
    """An evaluation of `version` against `champion`."""
    checks = [
        {"name": "recall@100 >= 0.3", "status": "failed" if decision == "refuse" else "passed", "value": 0.25,
         "threshold": 0.3, "reason": "recall@100 is 0.25.", "blocking": decision == "refuse"},
    ]  # fmt: skip
    metrics = {
        "split": "test",
        "queries": 1,
        "ks": [100],
        "candidates": 1,
        "confidence": 0.95,
        "version": version,
        "champion": champion,
        "systems": {
            "two_tower": {"kind": "challenger", "metrics": {"recall@100": {"value": 0.25, "low": 0.2, "high": 0.3}}}
        },
        "gate": {"decision": decision, "reason": REASONS[decision], "checks": checks},
    }
    with write_artifact(folder, "evaluation") as out:
        out.write_json("metrics.json", metrics)


def version_of(parts: VersionParts) -> str:
    """The id of the version that the parts make."""
    return version_id(parts.query_tower, parts.candidate_tower, parts.index)


def list_files(place: str) -> dict[str, int]:
    """What changes with any write to a file of a local folder or one on a bucket, by the file's name below it."""
    if is_remote(place):
        return {name: facts.generation for name, facts in describe_objects(place).items()}
    files = [path for path in Path(place).rglob("*") if path.is_file()]
    return {path.relative_to(place).as_posix(): path.stat().st_mtime_ns for path in files}


def read_file(registry: Registry, name: str) -> bytes:
    """A file of a registry, by its name below the registry's place."""
    if is_remote(registry.place):
        found = read_object(below(registry.place, name))
        assert found is not None
        return found[0]
    return Path(registry.place, name).read_bytes()


def write_file(registry: Registry, name: str, content: bytes) -> None:
    """Replaces a file of a registry, as somebody does who meddles with it."""
    if is_remote(registry.place):
        write_object(below(registry.place, name), content)
    else:
        Path(registry.place, name).write_bytes(content)


def remove_files(registry: Registry, name: str) -> None:
    """Removes a file of a registry, or a folder with all that is in it."""
    if is_remote(registry.place):
        inner = [f"{name}/{each}" for each in list_objects(below(registry.place, name))]
        remove_objects(registry.place, inner or [name])
    elif (Path(registry.place) / name).is_dir():
        shutil.rmtree(Path(registry.place) / name)
    else:
        Path(registry.place, name).unlink()


def assert_whole(version: Version) -> None:
    """A version that was listed a moment ago is whole, unless it has been removed, as a whole, since then.

    No version of these tests is stored a second time.
    """
    try:
        version.verify()
        assert version_id(version.query_tower, version.candidate_tower, version.index) == version.id
    except (ArtifactError, FileNotFoundError):
        assert "manifest.json" not in list_files(str(version.place))


def assert_consistent(registry: Registry) -> None:
    """The champion and every version that is listed are whole, of one run, and the history tells of the champion.

    Every version that the alias names is stored.
    """
    versions = registry.versions()
    for version in versions:
        version.verify()
        known = version.id, read_file(registry, f"versions/{version.id}/manifest.json")
        if known not in _looked_at:
            assert version_id(version.query_tower, version.candidate_tower, version.index) == version.id
            metrics = json.loads((version.evaluation / "metrics.json").read_text())
            assert metrics["version"] == version.id
            _looked_at.add(known)
    champion = registry.champion()
    assert [version.id for version in versions if version.status == "champion"] == ([champion.id] if champion else [])
    alias = json.loads(read_file(registry, "champion.json")) if champion else {"previous": []}
    assert {*alias["previous"]} <= {version.id for version in versions}
    serving = [decision.version for decision in registry.history() if decision.event != "refused"]
    assert serving[-1:] == ([champion.id] if champion else [])
