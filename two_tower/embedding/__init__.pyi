from .candidates import embed as embed
