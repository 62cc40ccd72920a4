"""Shared by every test."""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # where a test forks, gRPC's handlers may wait for its threads for ever

import two_tower  # noqa: F401  before any test imports TensorFlow: TFRS needs its setting of Keras 2
