from .registry import Decision as Decision, Fate as Fate, Registry as Registry
from .version import Version as Version, version_id as version_id
