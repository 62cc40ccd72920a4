"""Raw queries in, items out, one or a million: a stored version that answers with its query tower and its index alone.

What is known of users is handed in (`KnownUsers`); ids go in and come out, numbers stay inside.
"""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="serve")
