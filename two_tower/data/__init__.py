"""Logs to validated, split, encoded examples and queries, and the candidate table (Beam)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
