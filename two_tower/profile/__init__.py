"""What tables of logs hold, in bounded memory: profiles, what changed between two of them, days that are missing."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="prep")
