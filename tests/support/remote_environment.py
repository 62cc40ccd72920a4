"""A cloud that records and answers every call, and an environment file that points to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cloud import Cloud, running_cloud

from two_tower.artifacts import bucket

TARGETS = ("prep", "train", "embed", "index")


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud whose jobs stay pending until a test settles them."""
    with running_cloud(tmp_path / "cloud", run_jobs=False) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        bucket._client.cache_clear()
        yield found
        bucket._client.cache_clear()


@pytest.fixture
def environment_file(cloud: Cloud, tmp_path: Path) -> Path:
    """An environment file of that cloud."""
    return write_environment(tmp_path / "prod.yaml", cloud)


def write_environment(file: Path, cloud: Cloud, **more: object) -> Path:
    """Writes an environment file of a cloud, its images pushed."""
    content = {
        "vertex": {
            "project": cloud.project,
            "region": cloud.region,
            "bucket": f"gs://{cloud.bucket}",
            "service_account": f"pipelines@{cloud.project}.iam.gserviceaccount.com",
            "endpoints": dict.fromkeys(("vertex", "resource_manager", "iam", "service_usage", "images"), cloud.url),
        },
        "images": {target: cloud.images.push(target) for target in TARGETS},
        "labels": {"team": "discovery"},
        **more,
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
