"""The DAG, the ways to run it, and the `two-tower` command."""
