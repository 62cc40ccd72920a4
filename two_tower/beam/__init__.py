"""Beam pipelines as the configuration wants them, here and as Dataflow jobs, for every step that uses Beam."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
