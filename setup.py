"""The file that Dataflow makes its workers' package with (docs/data.md); the metadata is in pyproject.toml."""

from setuptools import setup

setup()
