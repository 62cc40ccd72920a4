"""The step `report_failure`."""
