"""Predictions whose intervals hold beyond the data."""

from testbed.analysis.fit.prediction.predict import Prediction, get_prediction

__all__ = ["Prediction", "get_prediction"]
