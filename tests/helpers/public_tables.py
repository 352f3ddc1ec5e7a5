"""Public tables of real runs, which lie beside the repository and are no part of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason="needs the public tables, which are not part of the repository"
)


def optima(with_raw: bool = False) -> list[dict[str, Any]]:
    """Exact optima of the additive law on these tables, found by other means and polished in 40 digits.

    Those of the unrounded originals (RAW) agree with those of the tables to 1e-9 only.
    """
    path = SHARED / "reference" / "fit_optima.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    return [entry for entry in entries if with_raw or not entry["data"].startswith("RAW")]


def fitted_rows(name: str) -> pd.DataFrame:
    """Columns n, tokens, loss, run of the rows that an entry of `optima` names."""
    if name.startswith("RAW"):
        name = "chinchilla_epoch/runs.csv " + ("all 245" if "all 245" in name else "used_in_published_fit==1")
    kind, _, rest = name.partition(" ")
    if kind == "chinchilla_epoch/runs.csv":
        table = _read("chinchilla_epoch/runs.csv")
        return _columns(table if rest.startswith("all") else table[table["used_in_published_fit"] == 1])
    if kind == "gadre":
        corpus, loss, which = rest.split(" ", 2)
        table = _read("gadre_overtraining/runs.csv").pipe(lambda t: t[t["train_data"] == corpus])
        if which != "all":
            table = table[(table["n_params"] < 1e9) & (table["tokens_per_param"] >= 10)]
        return _columns(table, loss=loss)
    if kind == "gemstones":
        flag, count = rest.split(" ")
        table = _read("gemstones/checkpoints.csv")
        return _columns(table[table[flag] == 1], n=count)
    if kind == "porian":
        variant = rest.replace("/", "|")
        return _columns(_read("porian_isoflop/isoflop.csv").pipe(lambda t: t[t["variant"] == variant]))
    table = _read("datablations_repeated/runs.csv")
    return _columns(table[(table["epochs"] <= 1) & (table["loss"] < 5) & (table["kind"] == "main")])


def _read(path: str) -> pd.DataFrame:
    return pd.read_csv(SHARED / "data" / path)


def _columns(table: pd.DataFrame, n: str = "n_params", loss: str = "loss") -> pd.DataFrame:
    columns = {"n": table[n].astype(float), "tokens": table["n_tokens"].astype(float), "loss": table[loss]}
    return pd.DataFrame(columns).assign(run=[str(i) for i in range(len(table))]).reset_index(drop=True)
