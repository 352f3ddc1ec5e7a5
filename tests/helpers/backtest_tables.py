"""Public tables on which prediction intervals are tried: those of the method's design, and fresh ones.

Columns n, tokens, loss, and run where the rows are checkpoints of runs.
"""

from __future__ import annotations

import pandas as pd

from .public_tables import SHARED

_PORIAN_DESIGN = (
    "owt2|base|short|chinchilla|standard|val",
    "owt2|tuned|short|const|standard|val",
    "rw|base|short|chinchilla|standard|val",
    "rw|tuned|short|const|standard|val",
    "rw|base|long|kaplan|standard|val",
    "owt2|base|short|kaplan|standard|val",
)
_PORIAN_FRESH = (
    "owt2|base|long|kaplan|standard|val",
    "rw|base|short|kaplan|standard|val",
    "rw|base|short|chinchilla|attention|train",
)


def design_tables() -> dict[str, pd.DataFrame]:
    """The thirteen tables on which the method's constants were chosen."""
    gadre, gemstones = _gadre(), _read("gemstones/checkpoints.csv")
    epoch = _read("chinchilla_epoch/runs.csv").query("used_in_published_fit == 1")
    repeated = _read("datablations_repeated/runs.csv").query("epochs <= 1.0001 and loss < 5 and kind == 'main'")
    return {
        "epoch": _columns(epoch),
        **{f"gadre {corpus}": _columns(rows, "loss_c4_val") for corpus, rows in gadre.items()},
        "gemstones cooled": _columns(gemstones.query("in_fit_cool_end == 1"), run="model"),
        "gemstones hot": _columns(gemstones.query("in_fit_hot == 1"), run="model"),
        **_porian(_PORIAN_DESIGN),
        "datablations": _columns(repeated),
    }


def fresh_tables() -> dict[str, pd.DataFrame]:
    """Fourteen tables that no constant was chosen on."""
    gadre, gemstones = _gadre(), _read("gemstones/checkpoints.csv")
    cells = _read("steplaw_lr_bs/dense.csv").assign(n_params=lambda t: t["n_params_no_embed"])
    best = cells.loc[cells.groupby(["n_params", "n_tokens"])["loss_smooth"].idxmin()]
    dclm = gemstones.query("in_fit_hot == 1 and loss_dclm == loss_dclm")
    return {
        "llama3": _columns(_read("llama3_isoflop/runs.csv")),
        "misfitting": _columns(_read("misfitting/final.csv")),
        "steplaw": _columns(best, "loss_smooth"),
        **{f"gadre {corpus} openlm": _columns(rows, "loss_openlm") for corpus, rows in gadre.items()},
        **{f"gadre {corpus} ptb": _columns(rows, "loss_paloma_ptb") for corpus, rows in gadre.items()},
        "gemstones lr ablation": _columns(gemstones.query("in_fit_lr_ablation == 1"), run="model"),
        "gemstones dclm": _columns(dclm, "loss_dclm", run="model"),
        **_porian(_PORIAN_FRESH),
    }


def _gadre() -> dict[str, pd.DataFrame]:
    table = _read("gadre_overtraining/runs.csv").query("tokens_per_param >= 9")
    return {str(corpus): rows for corpus, rows in table.groupby("train_data")}


def _porian(variants: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    table = _read("porian_isoflop/isoflop.csv")
    return {f"porian {v.replace('|', ' ')}": _columns(table[table["variant"] == v], run="n_params") for v in variants}


def _read(path: str) -> pd.DataFrame:
    return pd.read_csv(SHARED / "data" / path)


def _columns(table: pd.DataFrame, loss: str = "loss", run: str | None = None) -> pd.DataFrame:
    columns = {"n": table["n_params"].astype(float), "tokens": table["n_tokens"].astype(float), "loss": table[loss]}
    if run is not None:
        columns["run"] = table[run].astype(str)
    return pd.DataFrame(columns).reset_index(drop=True)
