"""The step `export_candidate_tower`."""
