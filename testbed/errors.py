"""The errors a user can meet; each says what was found, where, what is accepted and the remedy.

The command line prints them without a traceback and exits with their code. Faults of our own stay
ordinary Python exceptions.
"""

from __future__ import annotations


class TestbedError(Exception):
    """The user's mistake, told in one message."""

    exit_code = 2
    __test__ = False  # not a test class, whatever its name looks like to pytest


class ConfigError(TestbedError):
    """A configuration that cannot be accepted (file, dotted key, found, accepted)."""


class DataError(TestbedError):
    """A token source that cannot be read or does not hold enough."""


class TableError(TestbedError):
    """A points table that cannot be used as it is."""


class FolderError(TestbedError):
    """A sweep folder that is missing, foreign, in use, or not writable."""


class DiskError(FolderError):
    """A disk that is full, read-only or gone: no run's own fault, and what waits for it can go on later."""


class BudgetReached(TestbedError):
    """A sweep that stopped at its budget before all of its runs were done."""

    exit_code = 4


class SealError(TestbedError):
    """A forecast that is missing, was changed after it was sealed, or would be overwritten."""


class RunFailed(TestbedError):
    """A training run that ended without its losses; the reason is kept in its folder."""

    exit_code = 3
