"""What a preflight asks: the project, permissions on it and on service accounts, enabled services."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloud.errors import Refused, invalid, not_found
from cloud.http import Request, Route, route

if TYPE_CHECKING:
    from cloud.state import Cloud

PERMISSION = re.compile(r"[a-z][a-zA-Z0-9]*(\.[a-zA-Z0-9]+){2}")
PROJECT = r"/(?P<version>v1|v3)/projects/(?P<project>[^/:]+)"


def routes(cloud: Cloud) -> list[Route]:
    """Cloud Resource Manager v1 and v3, IAM's service accounts, Service Usage."""

    def known(handler: Callable[[Cloud, Request], dict[str, Any]]) -> Callable[[Request], dict[str, Any]]:
        def answer(request: Request) -> dict[str, Any]:
            if request.groups["project"] not in (cloud.project, cloud.project_number):
                raise Refused("PERMISSION_DENIED", f"The caller does not have permission on {request.path}")
            return handler(cloud, request)

        return answer

    account = rf"/v1/projects/(?P<project>-|{re.escape(cloud.project)})/serviceAccounts/(?P<email>[^/:]+)"
    service = r"/v1/projects/(?P<project>[^/:]+)/services/(?P<service>[^/:]+)"
    manager, iam = "cloudresourcemanager.projects", "iam.serviceAccounts"
    return [
        route("GET", PROJECT, f"{manager}.get", known(_get_project)),
        route("POST", f"{PROJECT}:testIamPermissions", f"{manager}.testIamPermissions", known(_test_project)),
        route("GET", account, f"{iam}.get", lambda request: _get_account(cloud, request)),
        route("POST", f"{account}:testIamPermissions", f"{iam}.testIamPermissions", lambda r: _test_account(cloud, r)),
        route("GET", service, "serviceusage.services.get", known(_get_service)),
    ]


def _get_project(cloud: Cloud, request: Request) -> dict[str, Any]:
    if request.groups["version"] == "v3":
        name, state = f"projects/{cloud.project_number}", "ACTIVE"
        return {"name": name, "projectId": cloud.project, "state": state, "displayName": cloud.project}
    return {
        "projectNumber": cloud.project_number,
        "projectId": cloud.project,
        "lifecycleState": "ACTIVE",
        "name": cloud.project,
    }


def _granted(cloud: Cloud, request: Request) -> dict[str, Any]:
    """The asked-for permissions that are not withheld; like Google, no list where there is none."""
    body = request.json()
    if unknown := sorted(body.keys() - {"permissions"}):
        raise invalid(f'Invalid JSON payload received. Unknown name "{unknown[0]}"')
    permissions = body.get("permissions")
    if not isinstance(permissions, list) or not permissions or len(permissions) > 100:
        raise invalid("permissions must be a list of 1 to 100.")
    for permission in permissions:
        if not isinstance(permission, str) or not PERMISSION.fullmatch(permission):
            raise invalid(f"Permission {permission} is not valid for this resource.")
    granted = [permission for permission in permissions if permission not in cloud.denied]
    return {"permissions": granted} if granted else {}


def _test_project(cloud: Cloud, request: Request) -> dict[str, Any]:
    for permission in request.json().get("permissions") or []:
        if str(permission).startswith(("storage.objects.", "iam.serviceAccounts.actAs")):
            continue  # can be held on the project, though better on the bucket or the account
        if str(permission).startswith("storage.buckets.") and "create" not in permission and "list" not in permission:
            raise invalid(f"Permission {permission} is not valid for this resource.")
    return _granted(cloud, request)


def _account(cloud: Cloud, request: Request) -> str:
    email = request.groups["email"]
    if email not in cloud.accounts and email != cloud.credentials.email:
        raise not_found(f"Unknown service account: {email}")
    return email


def _get_account(cloud: Cloud, request: Request) -> dict[str, Any]:
    email = _account(cloud, request)
    return {"name": f"projects/{cloud.project}/serviceAccounts/{email}", "projectId": cloud.project, "email": email}


def _test_account(cloud: Cloud, request: Request) -> dict[str, Any]:
    _account(cloud, request)
    return _granted(cloud, request)


def _get_service(cloud: Cloud, request: Request) -> dict[str, Any]:
    name = request.groups["service"]
    if not re.fullmatch(r"[a-z]+\.googleapis\.com", name):
        raise invalid(f"Invalid service name {name}; expected NAME.googleapis.com")
    state = "ENABLED" if name.removesuffix(".googleapis.com") in cloud.services else "DISABLED"
    parent = f"projects/{cloud.project_number}"
    return {"name": f"{parent}/services/{name}", "parent": parent, "config": {"name": name}, "state": state}
