"""The cloud of the tests, for all of this folder."""

from remote_environment import cloud, environment_file  # noqa: F401
