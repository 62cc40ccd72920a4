"""Towers, losses, the training loop and the exports (TensorFlow, TFRS)."""

import os

import lazy_loader

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TFRS wants Keras 2, and TensorFlow reads it at import
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
