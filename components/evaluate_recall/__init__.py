"""The step `evaluate_recall`."""
