"""A scaling-law training testbed: plan a sweep, train it, fit a law, seal a forecast, train the target, judge.

The floor plan, from the top. A floor imports only from floors below it, and siblings (|) do not know each other:

    cli                     parse, call one function, print
    study                   what composes both wings: plan, train, fit, seal, train the target, judge, report;
                            costs, progress, tune (the learning-rate certificate), grid_design, inputs of a comparison
    sharing                 what leaves the testbed: an archive, a model folder
    analysis | training     the two wings
    points                  the points table: the wall between the wings
    records                 what crosses floors: RunSpec, Eval, Forecast, Verdict
    config                  the one TOML file
    identity (which fields digests are of), units, files, registry (classes that users name), errors

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

from testbed.version import __version__

if TYPE_CHECKING:
    from testbed.analysis.fit import Fit, fit_law
    from testbed.config import Config, load_config
    from testbed.points import read_table
    from testbed.study import Study
    from testbed.study.progress import progress

_PUBLIC = {
    "Config": "testbed.config",
    "Fit": "testbed.analysis.fit",
    "Study": "testbed.study",
    "fit_law": "testbed.analysis.fit",
    "load_config": "testbed.config",
    "progress": "testbed.study.progress",
    "read_table": "testbed.points",
}

__all__ = ["Config", "Fit", "Study", "__version__", "fit_law", "load_config", "progress", "read_table"]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that a fit never waits for torch."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'testbed' has no attribute {name!r}")
