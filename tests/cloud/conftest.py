"""A cloud a test, the real clients pointed at it, and compiled toy pipelines."""

import pytest
from cloud import running_cloud, toys


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The path of the compiled toy pipeline."""
    return toys.compiled(toys.toy_pipeline(), tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def slow(tmp_path_factory):
    """The path of a compiled pipeline that takes a minute."""
    return toys.compiled(toys.slow_pipeline(), tmp_path_factory.mktemp("slow"))


def stay_at_home(monkeypatch):
    """Keeps google-auth from asking iamcredentials.googleapis.com, on a thread, in which regions the account may be."""
    from google.auth.credentials import CredentialsWithRegionalAccessBoundary

    asks = "_is_regional_access_boundary_lookup_required"
    monkeypatch.setattr(CredentialsWithRegionalAccessBoundary, asks, lambda self: False)


def _started(tmp_path, monkeypatch, **options):
    with running_cloud(tmp_path / "cloud", **options) as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        stay_at_home(monkeypatch)
        yield cloud


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A cloud that really runs jobs."""
    yield from _started(tmp_path, monkeypatch)


@pytest.fixture
def still_cloud(tmp_path, monkeypatch):
    """A cloud whose jobs stay PENDING."""
    yield from _started(tmp_path, monkeypatch, run_jobs=False)


@pytest.fixture
def connect(monkeypatch):
    """Points the SDK at a cloud; returns the SDK."""
    from google.cloud import aiplatform
    from google.cloud.aiplatform import pipeline_jobs
    from google.cloud.aiplatform.utils import resource_manager_utils

    def connected(cloud):
        monkeypatch.setattr(
            resource_manager_utils, "get_project_number", lambda project, credentials=None: cloud.project_number
        )
        monkeypatch.setattr(pipeline_jobs, "_JOB_WAIT_TIME", 0.1)
        aiplatform.init(project=cloud.project, location=cloud.region, api_endpoint=cloud.url, api_transport="rest")
        return aiplatform

    yield connected
    aiplatform.initializer.global_config.__init__()


@pytest.fixture
def make_job(connect, toy):
    """Makes an SDK job of the toy pipeline, not submitted yet."""

    def made(cloud, job_id="first", *, template=toy, parameters=None, **options):
        aiplatform = connect(cloud)
        values = {"text": "hello"} if parameters is None else parameters
        return aiplatform.PipelineJob(
            "try", template, job_id, f"gs://{cloud.bucket}/pipelines", parameter_values=values, **options
        )

    return made


@pytest.fixture
def session():
    """Makes an HTTP session that shows a token of the cloud's service account."""
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2 import service_account

    def made(cloud):
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        key = service_account.Credentials.from_service_account_file(cloud.credentials.file, scopes=scopes)
        return AuthorizedSession(key)

    return made
