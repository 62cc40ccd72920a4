"""The steps of the DAG, one folder each: a KFP interface, a body of a few lines, a README.

A body is a lightweight Python component: kfp carries its source into the compiled file, and the source imports the
installed project when it runs.  So a step runs in a container whose image holds the project with the step's extra,
and as a subprocess on one machine.
"""
