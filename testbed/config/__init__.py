"""The configuration file of a study: `config` holds its tables, one module each; `loading` reads it."""

from testbed.config.budget import Budget
from testbed.config.config import Config
from testbed.config.data import Data, HuggingFace, Zipf
from testbed.config.execution import Execution
from testbed.config.forecast_settings import ForecastSettings
from testbed.config.grid import Grid, Target
from testbed.config.loading import check_config, differences, load_config, read_config
from testbed.config.model import Model
from testbed.config.tracker import Tracker
from testbed.config.train import Train

__all__ = [
    "Budget",
    "Config",
    "Data",
    "Execution",
    "ForecastSettings",
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
