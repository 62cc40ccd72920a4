"""Logs to validated, split, encoded examples and queries, and the candidate table (Beam)."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="prep", others={"EveryUser": "serve"})
