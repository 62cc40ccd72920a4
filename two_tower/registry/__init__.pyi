from .registry import Decision as Decision, Fate as Fate, Registry as Registry, list_registries as list_registries
from .version import Version as Version, version_id as version_id
