"""Raw columns of any type: as plain ones, as text that people can read, and as hashes."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="prep")
