"""What metrics.json holds, as models: what an evaluation writes, and what checks, reports and consoles read.

It is a low room of its own, since the contract of gate checks, the registry and the evaluation itself all speak of it.
"""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__)
