"""The step `embed_candidates`."""
