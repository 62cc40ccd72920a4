"""The step `build_index`."""
