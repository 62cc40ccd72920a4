"""Running on this machine: the DAG, single steps, searches and schedules."""
