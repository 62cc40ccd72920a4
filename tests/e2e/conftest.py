"""The small data set and a finished run of it, shared by the end-to-end tests."""

import pytest
from project import Project


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
