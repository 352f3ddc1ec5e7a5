"""Whether prediction intervals hold on public tables: python scripts/backtest_public.py [design|fresh] ...

Every table is cut at seven computes; the runs below a cut are fitted, those above predicted. The tables
lie beside the repository (see tests/helpers/public_tables.py). Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from testbed.analysis.fit.heldout.backtest import backtest
from testbed.analysis.fit.heldout.coverage import ALL, LABELS, cells, summarised
from tests.helpers.backtest_tables import design_tables, fresh_tables

SETS = {"design": design_tables, "fresh": fresh_tables}


def backtests(tables: dict[str, pd.DataFrame], law: str = "hoffmann", unit: str = "nats") -> pd.DataFrame:
    """The predictions of every table's back-test, with the table's name; a line on each as it is done."""
    parts = []
    print(
        f"{'table':46} rows | covered: kriging, Gauss-Newton, bootstrap | score, error: of Gauss-Newton's | kappa  CPU-s"
    )
    for name, table in tables.items():
        began = time.process_time()
        result = backtest(law, table, unit=unit, where=name)
        of = result.summary[result.summary["distance"] == ALL].set_index("method")
        ratio = of.loc["kriging"] / of.loc["gauss-newton", ["score", "error"]]
        covered = "   ".join(f"{value:.3f}" for value in of["coverage"])
        print(
            f"{name:46} {len(table):4} | {covered} | {ratio['score']:.2f}  {ratio['error']:.2f} "
            f"| {result.kappa:.2f}  {time.process_time() - began:.1f}"
        )
        parts.append(result.predictions.assign(table=name))
    return pd.concat(parts, ignore_index=True)


def bars(summary: pd.DataFrame) -> dict[str, bool]:
    """What the intervals of level 0.9 promise, and whether a summary over tables keeps it."""
    at = summary.set_index(["method", "distance"])
    kriging, plain = at.loc["kriging"], at.loc["gauss-newton"]
    near = kriging.loc[[label for label in LABELS[:-1] if label in kriging.index], "coverage"]
    return {
        "coverage 0.85 to 0.97": bool(0.85 <= kriging.loc[ALL, "coverage"] <= 0.97),
        "coverage at least 0.80 at every distance to 2.5 decades": bool((near >= 0.80).all()),
        "score at most 0.6 of Gauss-Newton's": bool(kriging.loc[ALL, "score"] <= 0.6 * plain.loc[ALL, "score"]),
        "score at most 0.5 of the bootstrap's": bool(
            kriging.loc[ALL, "score"] <= 0.5 * at.loc[("bootstrap", ALL), "score"]
        ),
        "error at most 0.8 of the plain law's": bool(kriging.loc[ALL, "error"] <= 0.8 * plain.loc[ALL, "error"]),
    }


def main(names: list[str]) -> int:
    missed = 0
    for name in names or list(SETS):
        print(f"\n{name} tables")
        summary = summarised(cells(backtests(SETS[name]()), "table"))
        print("\n" + summary.round(4).to_string(index=False))
        for bar, kept in bars(summary).items():
            print(f"{'kept  ' if kept else 'MISSED'}  {bar}")
            missed += not kept
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
