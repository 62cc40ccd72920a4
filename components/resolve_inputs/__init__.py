"""The step `resolve_inputs`."""
