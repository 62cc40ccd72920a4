"""The step `leave_page`."""
