"""Raw columns of any type: as plain ones, as text that people can read, and as hashes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
