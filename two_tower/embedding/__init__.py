"""The exported towers in bulk (Beam): every candidate to its embedding, every query to its items."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
