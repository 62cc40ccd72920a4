"""Makes the helpers beside this file importable from every test."""

import two_tower.model  # noqa: F401  before any test imports TensorFlow: TFRS needs its setting of Keras 2
