"""The command line; see `app`."""

from testbed.cli.app import main

__all__ = ["main"]
