"""The report of a run: one HTML file without any reference outside itself, made from the artefacts alone.

Each `..._section` function of the modules turns artefact content into the values of one section, which a template of
the same name sets; the templates escape all of them.  What comes from the data is clipped, so that the file stays
small whatever the logs hold.
"""

from two_tower.extras import attach_door

__getattr__, __dir__, __all__ = attach_door(__name__, __file__, extra="index")
