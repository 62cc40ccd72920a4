from .embed import embed as embed
