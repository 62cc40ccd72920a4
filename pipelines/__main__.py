"""`python -m pipelines` is the `two-tower` command."""

from pipelines.cli import main

main()
