"""The step `keep_refused`."""
