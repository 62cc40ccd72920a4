from .prepare import prepare as prepare
from .prepared import Prepared as Prepared, open_prepared as open_prepared
from .sources import resolve_sources as resolve_sources
