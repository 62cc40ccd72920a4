"""The small data set and finished runs of it, here and on a stand-in for a cloud, shared by the end-to-end tests."""

import shutil
from collections.abc import Iterator

import pytest
from cloud import Call, Cloud, running_cloud
from project import Project
from remote_environment import write_environment


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    """A checkout with the data set `tiny`."""
    project = Project(tmp_path_factory.mktemp("checkout"))
    project.command("data", "tiny")
    return project


@pytest.fixture(scope="session")
def first_run(project) -> str:
    """What `two-tower run configs/tiny.yaml` printed when nothing was cached."""
    return project.command("run", "configs/tiny.yaml").stdout


NIGHTLY = {
    "config": "configs/tiny.yaml",
    "cron": "0 3 * * *",
    "set": {
        "data.interactions.path": "interactions*.parquet",
        "data.interactions.filters": [{"column": "time", "op": "<", "value": "{date}"}],
        "evaluation.gate": [],
        "evaluation.baselines": [],
    },
}
PRICES = {"currency": "EUR", "run": 0.03, "cpu_hour": 0.04, "memory_gb_hour": 0.005}


@pytest.fixture(scope="session")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    """A cloud that really runs what is submitted."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as found:
        yield found


@pytest.fixture(scope="session")
def remote(project, cloud, tmp_path_factory) -> Project:
    """A checkout whose commands reach the cloud: its environment file is `prod.yaml`, the logs lie in the bucket."""
    remote = Project(tmp_path_factory.mktemp("remote"))
    shutil.copytree(project.folder / "data", remote.folder / "data")
    remote.variables = cloud.environment
    write_environment(remote.folder / "prod.yaml", cloud, schedules={"nightly": NIGHTLY}, prices=PRICES)
    for file in (remote.folder / "data" / "tiny").glob("*.parquet"):
        cloud.put(file, f"gs://{cloud.bucket}/data/tiny/{file.name}")
    return remote


@pytest.fixture(scope="session")
def _submitted(remote, cloud) -> tuple[str, list[Call]]:
    before = len(cloud.calls)
    said = remote.command("submit", "configs/tiny.yaml", "--env", "prod.yaml", "--wait").stdout
    return said, cloud.calls[before:]


@pytest.fixture(scope="session")
def submitted(_submitted) -> str:
    """What `two-tower submit --wait` printed of the first run there."""
    return _submitted[0]


@pytest.fixture(scope="session")
def good_calls(_submitted) -> list[Call]:
    """The calls that the stand-in recorded in that run."""
    return _submitted[1]
