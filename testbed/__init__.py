"""A scaling-law training testbed: plan a sweep, train it, fit a law, seal a forecast, train the target, judge.

The floor plan, from the top; a floor imports only from floors below it, and siblings (|) do not know
each other:

    cli                 parse, call one function, print
    estimate | display | sharing
                        what a plan costs on this machine; what a user sees while runs are trained; what
                        leaves the testbed: an archive, a model folder
    tune                learning-rate brackets at a grid's corners, and the certificate made of them
    study               the loop on one folder
    ladder              a configuration's grid as candidates for a design, and a design as its rungs
    report              the page, its figures, tables and sentences
    validate | design   the sealed forecast, the verdict, the baselines; which runs to train for a target
    fit                 the exact solver, resampling by run, predictions, doubts, comparisons
    laws                one law a file
    executors           the only place that starts processes; composes train and store
    store | train       folders on disk; the training loop
    sweep               configuration -> every run, settled in full; pure
    data | models       token sources; families of networks
    points              the points table: the wall between the wings
    records             what crosses floors
    config              the one TOML file
    units, files, extension (code that users name), version, errors

Two wings and a wall. The training wing (torch) writes run folders; the analysis wing (laws, fit,
validate, design, report) reads one points table and never imports torch, so anyone's table of runs is as good
as one of ours. `study` is the one place above both: it carries points from one to the other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from testbed.version import __version__

if TYPE_CHECKING:
    from testbed.config import Config, load_config
    from testbed.display import progress
    from testbed.fit import Fit, fit_law
    from testbed.points import read_table
    from testbed.study import Study

_PUBLIC = {
    "Config": "testbed.config",
    "Fit": "testbed.fit",
    "Study": "testbed.study",
    "fit_law": "testbed.fit",
    "load_config": "testbed.config",
    "progress": "testbed.display",
    "read_table": "testbed.points",
}

__all__ = ["Config", "Fit", "Study", "__version__", "fit_law", "load_config", "progress", "read_table"]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that a fit never waits for torch."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'testbed' has no attribute {name!r}")
