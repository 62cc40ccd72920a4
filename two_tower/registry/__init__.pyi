from .decisions import Decision as Decision
from .find import find_version as find_version, list_registries as list_registries
from .parts import VersionParts as VersionParts
from .pruning import PruneDecision as PruneDecision
from .registry import Registry as Registry
from .version import Version as Version, version_id as version_id
