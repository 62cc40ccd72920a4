from .days import incomplete_days as incomplete_days
from .descriptions import describe as describe, in_words as in_words
from .drift import compare_profiles as compare_profiles
from .sketches import Sketch as Sketch, Sketcher as Sketcher, merge as merge, sketch as sketch
