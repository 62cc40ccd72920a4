"""What a preflight asks: permissions, services, accounts, images."""

import pytest
import requests


@pytest.fixture
def ask(still_cloud, session):
    """Asks the cloud; status and JSON of the reply."""
    opened = session(still_cloud)

    def asked(method, path, **options):
        reply = opened.request(method, still_cloud.url + path, **options)
        return reply.status_code, reply.json() if reply.content else {}

    return asked


PERMISSIONS = ["aiplatform.pipelineJobs.create", "aiplatform.schedules.create"]


def test_the_project_and_its_number(ask):
    assert ask("GET", "/v1/projects/shop-project")[1]["projectNumber"] == "123456789012"
    assert ask("GET", "/v3/projects/shop-project")[1]["name"] == "projects/123456789012"
    assert ask("GET", "/v1/projects/another")[0] == 403


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_permissions_on_the_project(ask, still_cloud, version):
    where = f"/{version}/projects/shop-project:testIamPermissions"
    assert ask("POST", where, json={"permissions": PERMISSIONS}) == (200, {"permissions": PERMISSIONS})
    still_cloud.denied |= set(PERMISSIONS)
    assert ask("POST", where, json={"permissions": PERMISSIONS}) == (200, {})
    assert ask("POST", where, json={"permissions": ["aiplatform.*"]})[0] == 400
    assert ask("POST", where, json={"permission": PERMISSIONS})[0] == 400
    assert ask("POST", where, json={"permissions": ["storage.buckets.get"]})[0] == 400  # asked of the bucket


@pytest.mark.parametrize("project", ["-", "shop-project"])
def test_permissions_on_a_service_account(ask, still_cloud, project):
    def where(email):
        return f"/v1/projects/{project}/serviceAccounts/{email}:testIamPermissions"

    body = {"permissions": ["iam.serviceAccounts.actAs"]}
    email = "pipelines@shop-project.iam.gserviceaccount.com"
    assert ask("POST", where(email), json=body) == (200, body)
    still_cloud.denied.add("iam.serviceAccounts.actAs")
    assert ask("POST", where(email), json=body) == (200, {})
    assert ask("POST", where("nobody@shop-project.iam.gserviceaccount.com"), json=body)[0] == 404


def test_services(ask, still_cloud):
    still_cloud.services.remove("dataflow")
    where = "/v1/projects/shop-project/services/"
    assert ask("GET", where + "aiplatform.googleapis.com")[1]["state"] == "ENABLED"
    assert ask("GET", where + "dataflow.googleapis.com")[1]["state"] == "DISABLED"
    assert ask("GET", where + "dataflow")[0] == 400


def test_images_by_tag_and_digest(still_cloud, session):
    image = still_cloud.images.push("prep", "v1", "latest")
    name, digest = image.split("@")
    assert name == "europe-west4-docker.pkg.dev/shop-project/two-tower/prep"
    where = f"{still_cloud.url}/v2/shop-project/two-tower/prep/manifests/"
    opened = session(still_cloud)
    for reference in ("v1", "latest", digest):
        reply = opened.head(where + reference)
        assert (reply.status_code, reply.headers["Docker-Content-Digest"]) == (200, digest)
    assert opened.get(where + "v1").json()["schemaVersion"] == 2
    assert opened.head(where + "v2").status_code == 404
    missing = opened.get(f"{still_cloud.url}/v2/shop-project/two-tower/train/manifests/v1")
    assert missing.json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert requests.head(where + "v1", timeout=5).status_code == 401


def test_calls_are_recorded_by_name(ask, still_cloud):
    ask("GET", "/v1/projects/shop-project/services/aiplatform.googleapis.com")
    ask("GET", "/v1/nonsense")
    names = [(call.name, call.status) for call in still_cloud.calls if call.name != "oauth2.token"]
    assert names == [("serviceusage.services.get", 200), ("unknown", 404)]
