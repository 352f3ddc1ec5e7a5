"""A scaling-law training testbed: plan a sweep, train it, fit a law, seal a forecast, train the target, judge.

The floor plan, from the top. A floor imports only from floors below it, and siblings (|) do not know each other:

    cli                     parse, call one function, print
    study                   what composes both wings: plan, train, fit, seal, train the target, judge, report;
                            costs, progress, tune (the learning-rate certificate), grid_design, inputs of a comparison
    sharing                 what leaves the testbed: an archive, a model folder
    analysis | training     the two wings
    points                  the points table: the wall between the wings
    records                 what crosses floors: RunSpec, Eval, Forecast, Verdict
    config                  the one TOML file; which fields of it and of records digests are of
    units, files, registry (classes that users name), version, errors

The training wing (torch) turns a configuration into run folders:

    executors               the only place that starts processes: this machine, Slurm, Ray
    store | train           run folders on disk; the training loop
    sweep                   configuration -> every run, settled in full; pure
    data | models           token sources; families of networks
    recipe                  schedules of the learning rate, and parts of a training step

The analysis wing (numpy, scipy, pandas) reads one points table and never imports torch, so anyone's table of runs
is as good as one of ours:

    report                  pages, figures, tables and sentences
    certificate | design    are the learning rates right; which runs to train next
    forecast                the sealed forecast, the verdict, the baselines
    fit                     the solver, resampling by run, predictions, warnings, comparisons
    laws                    one law a file
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.analysis.fit import Fit, fit_law
    from testbed.analysis.fit.regressor import ScalingLawRegressor
    from testbed.analysis.laws import LAWS, AdditiveLaw, Law, Parameter, find_law
    from testbed.config import Config, load_config
    from testbed.errors import TestbedError
    from testbed.points import read_table
    from testbed.registry import allow_code
    from testbed.study import Study
    from testbed.study.progress import progress
    from testbed.training.data import TokenSource
    from testbed.training.executors import Executor
    from testbed.training.models import Family
    from testbed.training.recipe import Attached, Part, Schedule
    from testbed.version import __version__

_HOMES = {
    "AdditiveLaw": "testbed.analysis.laws",
    "Attached": "testbed.training.recipe",
    "Config": "testbed.config",
    "Executor": "testbed.training.executors",
    "Family": "testbed.training.models",
    "Fit": "testbed.analysis.fit",
    "LAWS": "testbed.analysis.laws",
    "Law": "testbed.analysis.laws",
    "Parameter": "testbed.analysis.laws",
    "Part": "testbed.training.recipe",
    "ScalingLawRegressor": "testbed.analysis.fit.regressor",
    "Schedule": "testbed.training.recipe",
    "Study": "testbed.study",
    "TestbedError": "testbed.errors",
    "TokenSource": "testbed.training.data",
    "__version__": "testbed.version",
    "allow_code": "testbed.registry",
    "find_law": "testbed.analysis.laws",
    "fit_law": "testbed.analysis.fit",
    "load_config": "testbed.config",
    "progress": "testbed.study.progress",
    "read_table": "testbed.points",
}

__all__ = [
    "LAWS",
    "AdditiveLaw",
    "Attached",
    "Config",
    "Executor",
    "Family",
    "Fit",
    "Law",
    "Parameter",
    "Part",
    "ScalingLawRegressor",
    "Schedule",
    "Study",
    "TestbedError",
    "TokenSource",
    "__version__",
    "allow_code",
    "find_law",
    "fit_law",
    "load_config",
    "progress",
    "read_table",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import testbed` loads neither torch nor pandas."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'testbed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
