"""The library of laws, one a file.

A new law is one class (see `law.Law`) and its line here; or an entry point of an installed package in the group
testbed.laws; or "package.module:Class" wherever a law is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from testbed.analysis.laws.law import AdditiveLaw, Columns, Law, Parameter, Theta, plain_formula
from testbed.errors import ConfigError
from testbed.registry import Registry, names_code

_LIBRARY = {
    "hoffmann": "hoffmann:Hoffmann",
    "hoffmann_tied": "hoffmann:HoffmannTied",
    "kaplan": "kaplan:Kaplan",
    "kaplan_nd": "kaplan:KaplanND",
    "kaplan_n": "kaplan:KaplanN",
    "kaplan_d": "kaplan:KaplanD",
    "kaplan_c": "kaplan:KaplanC",
    "coupled": "coupled:Coupled",
    "henighan_n": "henighan:HenighanN",
    "henighan_d": "henighan:HenighanD",
    "henighan_c": "henighan:HenighanC",
    "hestness": "hestness:Hestness",
    "shifted": "nezhurina:Shifted",
    "width": "liu:Width",
    "bnsl": "bnsl:BNSL",
    "bnsl2": "bnsl:BNSL2",
    "gadre": "gadre:Gadre",
    "gadre_error": "gadre:GadreError",
    "muennighoff": "muennighoff:Muennighoff",
    "goyal": "goyal:Goyal",
    "goyal_code": "goyal:GoyalCode",
    "goyal_pools": "goyal:GoyalPools",
    "goyal_pools4": "goyal:GoyalPools4",
    "mixing": "ye:Mixing",
    "mixing3": "ye:Mixing3",
    "mixing5": "ye:Mixing5",
    "farseer": "farseer:Farseer",
    "tissue": "tissue:Tissue",
    "tissue_n": "tissue:TissueN",
    "multi_power": "luo:MultiPower",
    "step_law_lr": "step_law:StepLawLR",
    "step_law_batch": "step_law:StepLawBatch",
    "critical_batch": "su:CriticalBatch",
    "steps_at_batch": "su:StepsAtBatch",
    "kaplan_ns": "su:KaplanNS",
    "kaplan_trajectory": "su:Trajectory",
    "vocabulary": "tao:Vocabulary",
    "vocabulary_tied": "tao:VocabularyTied",
    "routed": "clark:Routed",
    "leverage": "tian:Leverage",
    "sparse": "jin:Sparse",
    "parallel_streams": "chen:Streams",
    "ghorbani": "ghorbani:Ghorbani",
    "fernandes": "fernandes:Fernandes",
    "krajewski": "downstream:Krajewski",
    "krajewski_nd": "downstream:KrajewskiND",
    "krajewski_max": "downstream:KrajewskiMax",
    "krajewski_log": "log_accuracy:KrajewskiLog",
    "krajewski_nd_log": "log_accuracy:KrajewskiNDLog",
    "krajewski_max_log": "log_accuracy:KrajewskiMaxLog",
    "pass_at_k": "sampling:PassAtK",
    "repeated_sampling": "sampling:RepeatedSampling",
    "passuntil": "sampling:PassUntil",
    "bhagia": "downstream:Bhagia",
    "isik_bleu": "transfer:IsikBleu",
    "isik_loss": "transfer:IsikLoss",
    "yan_tokens": "yan:YanTokens",
    "yan_n": "yan:YanN",
    "gao_bon": "gao:GaoBon",
    "gao_rl": "gao:GaoRL",
    "reinforcement": "tan:Reinforcement",
    "reinforcement_n": "tan:ReinforcementN",
    "proportional": "fort:Proportional",
    "inverse_scaling": "shapes:InverseScaling",
    "u_shape": "shapes:UShape",
}
_CLASSES = Registry(
    "law",
    "testbed.laws",
    {name: f"testbed.analysis.laws.{place}" for name, place in _LIBRARY.items()},
    ("value", "prepare"),
)


class _Laws(Mapping[str, Law]):
    """One instance of every law, ours and those of installed packages; made when it is first asked for."""

    def __getitem__(self, name: str) -> Law:
        return _known(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES


LAWS = _Laws()


def find_law(name: str, key: str = "law") -> Law:
    """The law of this name; `key` says in messages where it is named.

    >>> find_law("hoffmann").columns
    ('n', 'tokens')

    Raises:
        ConfigError: There is no such law (the message lists the known ones), or the user has not agreed to run the
            code of one of their own.
    """
    if name in LAWS:
        return LAWS[name]
    if not names_code(name):
        place = "" if key == "law" else f"{key}: "
        raise ConfigError(f"{place}unknown law {name!r}; accepted: {_CLASSES.accepted}")
    return _made(_CLASSES.find(name, key), name, key)


@cache
def _known(name: str) -> Law:
    return _made(_CLASSES[name], name, "law")


def _made(kind: type[Any], name: str, key: str) -> Law:
    if not issubclass(kind, Law) or getattr(kind, "__abstractmethods__", None):
        raise ConfigError(
            f"{key}: found {name!r}, which is no law; accepted: a class made from testbed.analysis.laws.Law"
        )
    law: Law = kind()
    return law


__all__ = ["LAWS", "AdditiveLaw", "Columns", "Law", "Parameter", "Theta", "find_law", "plain_formula"]
