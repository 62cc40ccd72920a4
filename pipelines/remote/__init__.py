"""The DAG on somebody else's machines: checked, submitted, followed and scheduled.

`submission` puts a configuration and an environment together, `preflight` looks for whatever would make the run fail,
a backend (`vertex`, `kubeflow`) talks to the service, `follow` waits for a run, `schedules` keeps what is scheduled as
the environment file says.
"""
