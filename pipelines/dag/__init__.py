"""The DAG, the table of its steps, and the fingerprints of their code."""
