"""The DAG of the steps in the table `two_tower.steps`, and the fingerprints of their code."""
