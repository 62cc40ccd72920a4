"""The candidate table to embeddings with the exported candidate tower (Beam)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
