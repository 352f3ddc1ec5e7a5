"""The examples in docstrings run and print what they say, and everything that users name first has one."""

import doctest
import importlib
import re

import pytest

# module -> the public names in it that have to have an example
EXAMPLES = {
    "testbed.analysis.design.power": ["power"],
    "testbed.analysis.design.suggest": ["suggest_for_table"],
    "testbed.analysis.fit.comparison.compare": ["compare"],
    "testbed.analysis.fit.comparison.conventions": ["convention_table"],
    "testbed.analysis.fit.comparison.recipes": ["compare_recipes"],
    "testbed.analysis.fit.fitting": ["fit_law"],
    "testbed.analysis.fit.heldout.backtest": ["backtest"],
    "testbed.analysis.fit.regressor": ["ScalingLawRegressor"],
    "testbed.analysis.fit.result": ["Fit"],
    "testbed.analysis.forecast.rule": ["make_forecast"],
    "testbed.analysis.laws": ["find_law"],
    "testbed.analysis.laws.law": ["Law", "Parameter"],
    "testbed.config.loading": ["load_config"],
    "testbed.points.columns": ["canonical", "key_columns"],
    "testbed.points.table": ["read_table"],
    "testbed.study.study": ["Study"],
}
METHODS = ("predict", "get_prediction", "interval", "profile", "frontier", "solve", "diagnostics", "to_dict")


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_print_what_they_say(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert failed == 0
    assert tried > 0


@pytest.mark.parametrize("module, name", [(module, name) for module, names in EXAMPLES.items() for name in names])
def test_what_users_name_first_has_an_example(module, name):
    assert ">>> " in getattr(importlib.import_module(module), name).__doc__


@pytest.mark.parametrize("method", METHODS)
def test_the_example_of_a_fit_calls_its_main_methods(method):
    from testbed.analysis.fit import Fit

    assert re.search(rf"^ *>>> .*\bfit\.{method}\(", Fit.__doc__, re.MULTILINE)
