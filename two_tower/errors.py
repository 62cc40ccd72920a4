"""Errors that are the user's to mend: printed without a traceback, each saying what, where and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Base of every error whose message is meant for the person who started the run."""

    exit_code = 1


class ConfigError(UserError):
    """The configuration or the command line is wrong; nothing has been run."""

    exit_code = 2


class MissingPackage(UserError, ModuleNotFoundError):
    """A package is not installed; the message names the extra that brings it."""

    exit_code = 2


class DataError(UserError):
    """The input logs or tables cannot be used as they are."""


class NoQueries(DataError):
    """A window of the logs holds no query that could be measured."""


class ArtifactError(UserError):
    """An artefact is missing, half-written, damaged or of the wrong kind."""


class TrainingError(UserError):
    """Training cannot go on (a non-finite loss, no training example)."""


class RegistryError(UserError):
    """The registry refuses an operation, or holds something that it cannot read."""
