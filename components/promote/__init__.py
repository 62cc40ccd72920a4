"""The step `promote`."""
