"""A Docker registry's manifests, by tag and by digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from cloud.http import Reply, Request, Route, route

MEDIA = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST = r"/v2/(?P<image>[a-z0-9._/-]+)/manifests/(?P<reference>[^/]+)"


class Images:
    """The images of a registry: `project/repository/image` -> tag or digest -> digest."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.known: dict[str, dict[str, str]] = {}
        self._manifests: dict[str, bytes] = {}

    def push(self, image: str, *tags: str) -> str:
        """Makes a new image (`prep`, or a name with registry and repository) known; its full name by digest."""
        full = image if "/" in image else f"{self.repository}/{image}"
        path = full.partition("/")[2]
        known = self.known.setdefault(path, {})
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(self._manifests)}
        manifest = {"schemaVersion": 2, "mediaType": MEDIA, "config": {**config, "annotations": {"path": path}}}
        content = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._manifests[digest] = content
        known.update({digest: digest, **dict.fromkeys(tags, digest)})
        return f"{full}@{digest}"

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def routes(self) -> list[Route]:
        """`/v2/NAME/manifests/REFERENCE`."""
        return [
            route(method, MANIFEST, "docker.manifests.get", self._get, resource=_named) for method in ("GET", "HEAD")
        ]

    def _get(self, request: Request) -> Reply:
        known = self.known.get(request.groups["image"])
        if known is None:
            return _unknown("NAME_UNKNOWN", request.groups["image"])
        digest = known.get(request.groups["reference"])
        if digest is None:
            return _unknown("MANIFEST_UNKNOWN", request.groups["reference"])
        return Reply(200, self._manifests[digest], {"Content-Type": MEDIA, "Docker-Content-Digest": digest})


def _named(request: Request) -> str:
    return f"{request.groups['image']}:{request.groups['reference']}"


def _unknown(code: str, what: str) -> Reply:
    errors: list[dict[str, Any]] = [{"code": code, "message": f"{what} is not known to the registry"}]
    return Reply(404, {"errors": errors})
