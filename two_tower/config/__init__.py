"""The whole user-facing configuration, validated."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__)
