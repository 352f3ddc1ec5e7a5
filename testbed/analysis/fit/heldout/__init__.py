"""Fits to the smaller runs of a table, tested on its larger ones."""

from testbed.analysis.fit.heldout.backtest import Backtest, backtest

__all__ = ["Backtest", "backtest"]
