"""Pipelines and their versions in the Kubeflow Pipelines API."""

from __future__ import annotations

import uuid
from email import message_from_bytes
from typing import Any

import yaml

from cloud.errors import Refused, invalid, not_found
from cloud.executions import now
from cloud.http import Request, Route, route
from cloud.kubeflow_lists import listed
from cloud.spec import read_spec

BASE = "/apis/v2beta1/pipelines"


class StoredPipelines:
    """What was uploaded."""

    def __init__(self) -> None:
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """Uploads, lists, gets and deletions."""
        one, version = rf"{BASE}/(?P<pipeline>[^/:]+)", r"/versions/(?P<version>[^/:]+)"
        calls = [
            ("POST", f"{BASE}/upload", "pipelines.upload", self._upload),
            ("POST", f"{BASE}/upload_version", "versions.upload", self._upload_version),
            ("GET", BASE, "pipelines.list", lambda r: listed(r, "pipelines", list(self.pipelines.values()))),
            ("GET", one, "pipelines.get", lambda r: self.pipeline(r.groups["pipeline"])),
            ("DELETE", one, "pipelines.delete", self._delete),
            ("GET", f"{one}/versions", "versions.list", self._list_versions),
            ("GET", one + version, "versions.get", lambda r: self.version(r.groups["version"])),
            ("DELETE", one + version, "versions.delete", self._delete_version),
        ]
        return [route(method, pattern, f"kfp.{name}", call, public=True) for method, pattern, name, call in calls]

    def pipeline(self, pipeline_id: str) -> dict[str, Any]:
        """A pipeline by id."""
        if pipeline_id not in self.pipelines:
            raise not_found(f"Pipeline {pipeline_id} not found.")
        return self.pipelines[pipeline_id]

    def version(self, version_id: str) -> dict[str, Any]:
        """A version by id, with its spec."""
        if version_id not in self.versions:
            raise not_found(f"PipelineVersion {version_id} not found.")
        return self.versions[version_id]

    def _upload(self, request: Request) -> dict[str, Any]:
        spec = _uploaded(request)
        name = request.params.get("name") or spec["pipelineInfo"]["name"]
        if any(made["display_name"] == name for made in self.pipelines.values()):
            raise Refused("ALREADY_EXISTS", f"The name {name} already exists. Please specify a new name.")
        pipeline_id = str(uuid.uuid4())
        made = self.pipelines[pipeline_id] = {
            "pipeline_id": pipeline_id,
            "display_name": name,
            "name": name,
            "created_at": now().isoformat(),
            **({"description": request.params["description"]} if "description" in request.params else {}),
        }
        self._add_version(pipeline_id, name, spec, request)
        return made

    def _upload_version(self, request: Request) -> dict[str, Any]:
        pipeline = self.pipeline(request.params.get("pipelineid", ""))
        spec = _uploaded(request)
        return self._add_version(pipeline["pipeline_id"], request.params.get("name", ""), spec, request)

    def _add_version(self, pipeline_id: str, name: str, spec: dict[str, Any], request: Request) -> dict[str, Any]:
        same = [made for made in self.versions.values() if made["pipeline_id"] == pipeline_id]
        if not name or any(made["display_name"] == name for made in same):
            raise Refused("ALREADY_EXISTS", f"The version name {name!r} is empty or already exists.")
        version_id = str(uuid.uuid4())
        made = self.versions[version_id] = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": version_id,
            "display_name": name,
            "name": name,
            "created_at": now().isoformat(),
            "pipeline_spec": spec,
        }
        return made

    def _list_versions(self, request: Request) -> dict[str, Any]:
        pipeline = self.pipeline(request.groups["pipeline"])["pipeline_id"]
        rows = [made for made in self.versions.values() if made["pipeline_id"] == pipeline]
        return listed(request, "pipeline_versions", rows)

    def _delete(self, request: Request) -> dict[str, Any]:
        pipeline = self.pipeline(request.groups["pipeline"])["pipeline_id"]
        if any(made["pipeline_id"] == pipeline for made in self.versions.values()):
            raise Refused("FAILED_PRECONDITION", f"Pipeline {pipeline} has versions; delete them first.")
        del self.pipelines[pipeline]
        return {}

    def _delete_version(self, request: Request) -> dict[str, Any]:
        del self.versions[self.version(request.groups["version"])["pipeline_version_id"]]
        return {}


def _uploaded(request: Request) -> dict[str, Any]:
    """The spec in the file of a `multipart/form-data` body."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    form = message_from_bytes(head + request.content)
    parts = form.get_payload() if form.is_multipart() else []
    for part in parts:
        if part.get_param("name", header="content-disposition") == "uploadfile":
            spec = yaml.safe_load(part.get_payload(decode=True))
            if not isinstance(spec, dict):
                raise invalid("The uploaded file holds no pipeline.")
            read_spec(spec, digests=False)
            return spec
    raise invalid("The form has no file `uploadfile`.")
