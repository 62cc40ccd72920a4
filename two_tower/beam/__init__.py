"""Beam pipelines as the configuration wants them, here and as Dataflow jobs, for every step that uses Beam."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="prep")
