"""A cloud whose buckets the tests of artefacts read and write."""

import pytest
from cloud import running_cloud

from two_tower.artifacts import bucket


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    with running_cloud(tmp_path / "cloud", run_jobs=False) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        bucket._client.cache_clear()
        yield found
        bucket._client.cache_clear()
