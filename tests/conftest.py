"""Shared by every test."""

import two_tower  # noqa: F401  before any test imports TensorFlow: TFRS needs its setting of Keras 2
