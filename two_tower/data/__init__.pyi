from .incremental import choose_earlier as choose_earlier
from .inputs import resolve_run as resolve_run
from .new_data import new_data_in_words as new_data_in_words, new_data_since as new_data_since
from .notes import filtered_in_words as filtered_in_words, in_sentences as in_sentences
from .prepare import prepare as prepare
from .prepared import (
    PROFILE as PROFILE,
    Prepared as Prepared,
    open_prepared as open_prepared,
    read_profile as read_profile,
)
from .refusals import NothingKept as NothingKept
from .rows import EXAMPLES as EXAMPLES, examples_of as examples_of
from .sources import resolve_sources as resolve_sources
from .users import EveryUser as EveryUser
from .work import Work as Work, located as located, work_of as work_of
