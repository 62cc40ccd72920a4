"""Towers, losses, the training loop and the exports (TensorFlow, TFRS)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
