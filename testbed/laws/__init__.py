"""The library of laws, one a file.

A new law is one class (see `law.Law`) and its line in LAWS, or "package.module:Class" wherever a law
is named.
"""

from __future__ import annotations

import importlib

from testbed.errors import ConfigError
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


def find_law(name: str) -> Law:
    """The law of this name; ConfigError lists the known ones."""
    if name in LAWS:
        return LAWS[name]
    module, colon, attribute = name.partition(":")
    if colon:
        try:
            law: Law = getattr(importlib.import_module(module), attribute)()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"law {name!r} cannot be imported ({error})") from None
        return law
    raise ConfigError(f'unknown law {name!r}; accepted: {", ".join(LAWS)}, or "package.module:Class"')


__all__ = ["LAWS", "AdditiveLaw", "Columns", "Law", "Parameter", "Theta", "find_law", "plain_formula"]
