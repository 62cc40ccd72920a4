"""The four things that others add, one file each: a feature type, a loss, a retriever, a gate check.

Each is a settings model with a `type` and a few methods.  The configuration finds the concrete classes in
`two_tower.features`, `two_tower.model.losses`, `two_tower.retrievers` and `two_tower.evaluation.checks` by
importing those packages' modules (`two_tower.settings.one_of`), so these modules, like those here, import
TensorFlow, Beam and ScaNN inside functions only.
"""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__)
