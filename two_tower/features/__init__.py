"""One class a feature type: fit its statistics, encode Arrow columns, encode TensorFlow inputs."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="train")
