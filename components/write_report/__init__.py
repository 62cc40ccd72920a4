"""The step `write_report`."""
