"""The step `export_query_tower`."""
