"""The two exported towers, each a SavedModel that takes raw features."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="serve")
