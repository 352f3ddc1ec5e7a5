"""Predictions whose intervals hold beyond the data, and the test that they do."""

from testbed.fit.prediction.backtest import Backtest, backtest
from testbed.fit.prediction.predict import Prediction, get_prediction

__all__ = ["Backtest", "Prediction", "backtest", "get_prediction"]
