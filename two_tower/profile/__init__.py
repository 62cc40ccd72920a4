"""What tables of logs hold, in bounded memory: profiles, what changed between two of them, days that are missing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
