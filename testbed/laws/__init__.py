"""The library of laws, one a file.

A new law is one class (see `law.Law`) and its line in LAWS, or "package.module:Class" wherever a law
is named.
"""

from __future__ import annotations

from testbed.errors import ConfigError
from testbed.extension import find_class
from testbed.laws.bnsl import BNSL, BNSL2
from testbed.laws.chen import Streams
from testbed.laws.clark import Routed
from testbed.laws.coupled import Coupled
from testbed.laws.downstream import Bhagia, Krajewski, KrajewskiND
from testbed.laws.farseer import Farseer
from testbed.laws.fernandes import Fernandes
from testbed.laws.gadre import Gadre, GadreError
from testbed.laws.gao import GaoBon, GaoRL
from testbed.laws.ghorbani import Ghorbani
from testbed.laws.goyal import Goyal
from testbed.laws.henighan import HenighanC, HenighanD, HenighanN
from testbed.laws.hestness import Hestness
from testbed.laws.hoffmann import Hoffmann, HoffmannTied
from testbed.laws.jin import Sparse
from testbed.laws.kaplan import Kaplan, KaplanC, KaplanD, KaplanN, KaplanND
from testbed.laws.law import AdditiveLaw, Columns, Law, Parameter, Theta, plain_formula
from testbed.laws.luo import MultiPower
from testbed.laws.muennighoff import Muennighoff
from testbed.laws.shapes import InverseScaling, UShape
from testbed.laws.step_law import StepLawBatch, StepLawLR
from testbed.laws.su import CriticalBatch, Trajectory
from testbed.laws.tao import Vocabulary, VocabularyTied
from testbed.laws.tian import Leverage
from testbed.laws.tissue import Tissue
from testbed.laws.transfer import IsikBleu, IsikLoss
from testbed.laws.yan import YanN, YanTokens

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
        raise ConfigError(f"{key}: found {name!r}, which is no law; accepted: a class made from testbed.laws.Law")
    law: Law = found()
    return law


__all__ = ["LAWS", "AdditiveLaw", "Columns", "Law", "Parameter", "Theta", "find_law", "plain_formula"]
