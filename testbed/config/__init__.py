"""The one configuration file of a study; see `tables` for its keys, `loading` for how it is read."""

from testbed.config.budget import Budget
from testbed.config.execution import Execution
from testbed.config.loading import check_config, differences, load_config, read_config
from testbed.config.tables import Config, Data, Forecast, Grid, HuggingFace, Model, Target, Train, Zipf
from testbed.config.tracker import Tracker

__all__ = [
    "Budget",
    "Config",
    "Data",
    "Execution",
    "Forecast",
    "Grid",
    "HuggingFace",
    "Model",
    "Target",
    "Tracker",
    "Train",
    "Zipf",
    "check_config",
    "differences",
    "load_config",
    "read_config",
]
