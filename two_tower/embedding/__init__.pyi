from .candidates import embed_candidates as embed_candidates
