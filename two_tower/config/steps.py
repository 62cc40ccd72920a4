"""The DAG, as far as a configuration speaks of it."""

STEPS = (
    "resolve_inputs",
    "prepare_data",
    "check_prepared",
    "train_towers",
    "measure_before_refit",
    "export_candidate_tower",
    "embed_candidates",
    "build_index",
    "export_query_tower",
    "evaluate_recall",
    "promote",
    "keep_refused",
    "write_report",
)
"""The DAG's steps, in an order in which they can run."""
