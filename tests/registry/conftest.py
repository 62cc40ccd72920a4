"""A registry for each test, in a folder and on a bucket."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from strict_bucket import BUCKET, StrictBucket

from two_tower.registry import Registry


@pytest.fixture
def storage() -> Iterator[StrictBucket]:
    with StrictBucket() as bucket:
        yield bucket


@pytest.fixture
def root_on_bucket(storage: StrictBucket) -> str:
    return f"gs://{BUCKET}/{uuid.uuid4().hex}/registry"


@pytest.fixture
def on_bucket(root_on_bucket: str) -> Registry:
    return Registry(root_on_bucket, "shop")


@pytest.fixture
def local(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", "shop")


@pytest.fixture(params=["local", "on_bucket"])
def registry(request: pytest.FixtureRequest) -> Registry:
    found: Registry = request.getfixturevalue(request.param)
    return found
