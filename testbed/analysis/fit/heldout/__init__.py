"""Fits to the smaller runs of a table, held against its larger ones."""

from testbed.analysis.fit.heldout.backtest import Backtest, backtest

__all__ = ["Backtest", "backtest"]
