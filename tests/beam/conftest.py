"""A cloud with Dataflow for the tests of remote pipelines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud import Cloud, running_cloud

from two_tower.beam import dataflow_job

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # gcsfs reads it when it is imported


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud that this process is set to, whose workers do not see the folder `launcher`."""
    import fsspec
    from apache_beam.internal.gcp import auth

    with running_cloud(tmp_path / "cloud") as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("TWO_TOWER_RUN_ID", "TWO_TOWER_STEP", "TWO_TOWER_COMMIT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
        monkeypatch.setattr(auth._Credentials, "_credentials", None)
        monkeypatch.setattr(dataflow_job, "POLL", 0.1)
        monkeypatch.setattr(dataflow_job, "PATIENCE", 2.0)
        kind = fsspec.get_filesystem_class("gs")
        kind.clear_instance_cache()
        (tmp_path / "launcher").mkdir()
        running.dataflow.aside = [tmp_path / "launcher"]
        yield running
        kind.clear_instance_cache()


@pytest.fixture
def a_run(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says which step of which run this process is."""
    monkeypatch.setenv("TWO_TOWER_RUN_ID", "Shop-20261126T010000")
    monkeypatch.setenv("TWO_TOWER_STEP", "prepare_data")
    monkeypatch.setenv("TWO_TOWER_COMMIT", "0f6c1d")
