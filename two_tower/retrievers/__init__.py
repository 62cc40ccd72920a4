"""One contract, `retrieve(queries, k, exclude)`: the two towers with their index, and the baselines."""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="index")
