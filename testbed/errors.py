"""Errors for users: the message says what was found and where, what is accepted, and the remedy.

The command line prints them without a traceback and exits with their code. Mistakes in the testbed itself raise
ordinary Python exceptions.
"""

from __future__ import annotations


class TestbedError(Exception):
    """The base of all errors that the user can do something about."""

    exit_code = 2
    __test__ = False  # pytest collects no tests from it, in spite of its name


class ConfigError(TestbedError):
    """A configuration that cannot be accepted (file, dotted key, found, accepted)."""


class DataError(TestbedError):
    """A token source that cannot be read or does not hold enough."""


class TableError(TestbedError):
    """A points table, or an expression over one, that cannot be used as it is."""


class FolderError(TestbedError):
    """A sweep folder that is missing, foreign, in use, or not writable."""


class DiskError(FolderError):
    """A disk that is full, read-only or gone. It fails no run: the sweep stops, and can continue later."""


class BudgetReached(TestbedError):
    """A sweep that stopped at its budget before all of its runs were done."""

    exit_code = 4


class SealError(TestbedError):
    """A sealed forecast that is missing, was changed after it was sealed, or would be overwritten."""


class RunFailed(TestbedError):
    """A training run that failed; its folder keeps the reason."""

    exit_code = 3
