"""Dataflow's `projects.locations.jobs`: a place for its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.http import Route

if TYPE_CHECKING:
    from cloud.state import Cloud


def routes(cloud: Cloud) -> list[Route]:
    """The routes of Dataflow's jobs."""
    return []
