"""The step `check_prepared`."""
