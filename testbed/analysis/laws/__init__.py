"""The library of laws, one a file.

A new law is one class (see `law.Law`) and its line in LAWS, or "package.module:Class" wherever a law
is named.
"""

from __future__ import annotations

from testbed.analysis.laws.bnsl import BNSL, BNSL2
from testbed.analysis.laws.chen import Streams
from testbed.analysis.laws.clark import Routed
from testbed.analysis.laws.coupled import Coupled
from testbed.analysis.laws.downstream import Bhagia, Krajewski, KrajewskiND
from testbed.analysis.laws.farseer import Farseer
from testbed.analysis.laws.fernandes import Fernandes
from testbed.analysis.laws.gadre import Gadre, GadreError
from testbed.analysis.laws.gao import GaoBon, GaoRL
from testbed.analysis.laws.ghorbani import Ghorbani
from testbed.analysis.laws.goyal import Goyal
from testbed.analysis.laws.henighan import HenighanC, HenighanD, HenighanN
from testbed.analysis.laws.hestness import Hestness
from testbed.analysis.laws.hoffmann import Hoffmann, HoffmannTied
from testbed.analysis.laws.jin import Sparse
from testbed.analysis.laws.kaplan import Kaplan, KaplanC, KaplanD, KaplanN, KaplanND
from testbed.analysis.laws.law import AdditiveLaw, Columns, Law, Parameter, Theta, plain_formula
from testbed.analysis.laws.luo import MultiPower
from testbed.analysis.laws.muennighoff import Muennighoff
from testbed.analysis.laws.shapes import InverseScaling, UShape
from testbed.analysis.laws.step_law import StepLawBatch, StepLawLR
from testbed.analysis.laws.su import CriticalBatch, Trajectory
from testbed.analysis.laws.tao import Vocabulary, VocabularyTied
from testbed.analysis.laws.tian import Leverage
from testbed.analysis.laws.tissue import Tissue
from testbed.analysis.laws.transfer import IsikBleu, IsikLoss
from testbed.analysis.laws.yan import YanN, YanTokens
from testbed.errors import ConfigError
from testbed.registry import find_class

_LIBRARY: tuple[Law, ...] = (
    Hoffmann(),
    HoffmannTied(),
    Kaplan(),
    KaplanND(),
    KaplanN(),
    KaplanD(),
    KaplanC(),
    Coupled(),
    HenighanN(),
    HenighanD(),
    HenighanC(),
    Hestness(),
    BNSL(),
    BNSL2(),
    Gadre(),
    GadreError(),
    Muennighoff(),
    Goyal(),
    Farseer(),
    Tissue(),
    MultiPower(),
    StepLawLR(),
    StepLawBatch(),
    CriticalBatch(),
    Trajectory(),
    Vocabulary(),
    VocabularyTied(),
    Routed(),
    Leverage(),
    Sparse(),
    Streams(),
    Ghorbani(),
    Fernandes(),
    Krajewski(),
    KrajewskiND(),
    Bhagia(),
    IsikBleu(),
    IsikLoss(),
    YanTokens(),
    YanN(),
    GaoBon(),
    GaoRL(),
    InverseScaling(),
    UShape(),
)
LAWS = {law.name: law for law in _LIBRARY}


def find_law(name: str, key: str = "law") -> Law:
    """The law of this name; ConfigError lists the known ones. `key` says in messages what named it."""
    if name in LAWS:
        return LAWS[name]
    if ":" not in name:
        place = "" if key == "law" else f"{key}: "
        raise ConfigError(f'{place}unknown law {name!r}; accepted: {", ".join(LAWS)}, or "package.module:Class"')
    found = find_class(name, key, ("value", "prepare"))
    if not issubclass(found, Law) or getattr(found, "__abstractmethods__", None):
        raise ConfigError(
            f"{key}: found {name!r}, which is no law; accepted: a class made from testbed.analysis.laws.Law"
        )
    law: Law = found()
    return law


__all__ = ["LAWS", "AdditiveLaw", "Columns", "Law", "Parameter", "Theta", "find_law", "plain_formula"]
