"""Warnings about a fit: a code to filter by, the numbers behind it, and one table with the sentence of every code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Evidence = Mapping[str, float | str]


@dataclass(frozen=True)
class Finding:
    """One doubt about a fit: its code, a sentence that says what to do, and the numbers behind it."""

    code: str
    message: str
    evidence: Evidence = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {"code": self.code, "message": self.message, "evidence": dict(self.evidence)}


def finding(code: str, evidence: Evidence, case: str = "", **values: Any) -> Finding:
    """The finding of this code: its sentence in SENTENCES (of `case`, where it has several) filled with `values`."""
    return Finding(code, SENTENCES[f"{code}: {case}" if case else code].format(**values), evidence)


SENTENCES = {
    "not-converged": (
        "The search for the optimum of {law} stopped at objective {objective:.6g} before it was at rest: the parameters "
        "are not an optimum; check the table for values that no law could give, or hold a parameter: --fix NAME=NUMBER."
    ),
    "unidentified": (
        "This table does not determine {parameters} of {law}: {reasons}. The curve may still serve within the data, but read "
        "nothing into these parameters; add {more} (testbed suggest TABLE --target N,D), hold one with --fix NAME=NUMBER, or "
        "find a law with fewer: testbed compare TABLE."
    ),
    "E-at-boundary": (
        "{where}: the data do not show an irreducible {response}, and the exponents have taken its place; use a law without "
        "{name} or runs nearer to it, and extrapolate with prediction intervals: testbed predict FIT.json."
    ),
    "term-at-zero": "{where}: the data do not show that term{gone}; use runs with it, or a law without it: testbed laws.",
    # which rows, which loss: `moved` is "beta goes from 0.45 to 0.37 (1.6 standard errors)"
    "outlier-sensitivity": (
        "Without {rows} ({share:g} % of the rows) {moved}: look at those rows, leave out runs that diverged or were cut "
        "short (--where), and give both answers{seen}: testbed fit TABLE --where EXPR."
    ),
    "delta-sensitivity": (
        "With {other} in the place of {own} {moved}: the answer depends on the weight of rows far from the law; look at "
        "the largest residuals, and give the range{seen}: --delta NUMBER, --objective ls."
    ),
    "selection-sensitivity": (
        "{rows} {moved}, {chances:.1f} times what chance allows: one law does not hold over all these runs; fit those that "
        "are like the target, and trust no interval of the parameters{seen}: --where EXPR."
    ),
    "under-trained": (
        "{count} of {whole} rows have fewer than {least:g} tokens per parameter, and without them {moved}, {chances:.1f} "
        'times what chance allows: leave them out unless the target is such a run{seen}: --where "{keep}".'
    ),
    "under-trained: most": (
        "{count} of {whole} rows have fewer than {least:g} tokens per parameter, and without them too few are left to see "
        "what they do: such runs often do not follow the law of longer ones; train some longer: testbed suggest TABLE."
    ),
    "influential-run": (
        "Without {which} alone {moved}: check that run, and repeat it or train another near it{seen}; to leave it "
        "out: {keep}."
    ),
    # the residuals
    "uneven-scatter": (
        "The scatter about the law is {times:.1f} times as large at {where} {axis} as at the other end ({low:.2g} against "
        "{high:.2g}): intervals by resampling allow for that, profiles and AICc do not: keep --interval percentile."
    ),
    "residual-trend": (
        "The residuals go with {axis}: from small to large their medians are {medians}. The law does not bend as the data "
        "do: extrapolate with prediction intervals, which allow for misfit, and compare laws: testbed compare TABLE."
    ),
    "biased-at-the-largest": (
        "The {runs} runs of most compute lie {median} {side} the law ({errors:.1f} standard errors): an extrapolation will "
        "be off to that side; use prediction intervals (testbed predict), or fit the larger runs alone: --where EXPR."
    ),
    "misfit-beyond-noise": (
        "The means of the {designs} designs lie {apart} (sd) off the law, {times:.1f} times what the noise between seeds "
        "({noise}) leaves in them: that is the law's misfit, and more seeds will not help; use prediction intervals (testbed "
        "predict), and compare laws: testbed compare TABLE."
    ),
    "far-rows": ("{which} the law{more}: diverged, or a slip in a column? Such rows widen every interval; {remedy}."),
    "explained-by": "{column} explains {share} of what the law leaves over: these are no runs of one law; {remedy}.",
    # the table
    "rows-differ": (
        "{rows} rows at {designs} differ in {columns}: not seeds{explained}. What lies between them is no noise, and "
        "counts as misfit; {remedy}."
    ),
    "unfinished": (
        "{rows} {are} of unfinished runs ({what}), and in the fit: their losses are not what such a run ends at; leave them "
        'out with --where "{keep}".'
    ),
    "repeated-data": (
        "{rows} of {whole} rows repeat their data (up to {most:.3g} epochs), and {law} does not know that: repeated tokens "
        'are worth less than new ones; take --law muennighoff, or keep --where "{keep}".'
    ),
    "few-runs": (
        "Only {runs} runs: standard errors and intervals from so few are themselves uncertain, and too small on average; "
        "train at least {enough}: testbed suggest TABLE --target N,D names the next."
    ),
    "few-runs: one": (
        "A single run: its points were resampled as if each were a run, and since they share its noise, standard errors and "
        "intervals are too small; train at least {enough} runs: testbed suggest TABLE --target N,D."
    ),
    "checkpoints-as-runs": (
        "The {points} points are of {runs} runs, and points of one run share its noise: whole runs were resampled, and "
        "{runs} is the number of observations; if each row is a run of its own, name another column: --run COLUMN."
    ),
    "checkpoints-as-runs: no column": (
        "{in_order} of {points} points come as one n with ever more tokens, like checkpoints of one run, and no column says "
        "which run they are of: every point was taken for a run, and if they are checkpoints the standard errors are up to "
        "7 times too small; name the column of runs: --run COLUMN."
    ),
    "duplicates": (
        "{rows} rows repeat another exactly (the first is row {first} of those fitted) and count twice; unless "
        "they are other runs that happened to agree, drop them: table.drop_duplicates() in pandas."
    ),
    "unit": (
        "The loss does not look like nats per token ({why}): E and the amplitudes are in its unit, what is known of E in "
        "nats does not carry over, and a loss from which something was subtracted may have E below 0; name "
        "another with --loss COLUMN."
    ),
    "C-definition": (
        "{column} was computed as {source}: an error in {other} then moves both, in opposite directions, and bends the "
        "exponents, as do values that were read off a figure; name a column of the {column} that were trained on, if there is "
        "one: {option}."
    ),
    "mid-schedule": (
        "{rows} of {whole} losses were taken before the learning rate had decayed ({sign}): they are higher than those of "
        "finished runs of as many tokens, by no constant factor; fit finished runs only: {keep}."
    ),
    "embedding-count": (
        "With {column} in one fit and {other} in another: {moved}. Say which count is meant (--n COLUMN), and use it for "
        "the target too."
    ),
    "embedding-count: one": (
        "Nothing says whether {column} counts embeddings; from {smallest:.3g} parameters on they are a large share, and the "
        "exponents depend on it; compare with laws of the same count only, and name another column with --n COLUMN."
    ),
    # what is asked beside the fit: a target, coefficients that someone gives, parabolas, other laws
    "far-target": (
        "The target is far from the data: {reasons}. Intervals were tested up to 2.5 decades and within that range; rely on "
        "a wide one at most, and train a run between: testbed suggest TABLE --target N,D."
    ),
    "far-target: answer": (
        "{what} lies far from the data: {reasons}. That is the law's word alone: train a run between (testbed suggest TABLE "
        "--target N,D), and ask testbed predict for an interval that grows with the distance."
    ),
    "rounded-params": (
        "{given}: with so few digits the {response} is known to {percent:.2g} % only, most of it from {worst}; take at "
        "least {digits} digits, from the source's own files, or fit its table: testbed fit TABLE."
    ),
    "isoflop-parabola": (
        "Parabolas through windows this wide ({widest:.1f} decades of N at most, {off_centre} of {windows} off centre) miss "
        "the optimal N of {law} by up to {worst:.2g} decades, and its exponent by {slope:+.2g}, without any noise{none}: "
        "keep to runs near each minimum, or fit a law to all of them: testbed fit TABLE."
    ),
    "law-selection": (
        "AICc prefers {fits} (by {apart:.3g} over {predicts}), but {predicts} predicted the larger runs best (mean error "
        "{best:.2g} against {error:.2g}): neither says which extrapolates best, so look at the predictions of all: testbed "
        "compare TABLE --params N --tokens D."
    ),
    "failed-before": (
        "At the cuts the intervals of {law} would have had to be {kappa:.2g} times as wide to keep their promise: it has "
        "failed on this very table before, so widen its interval by as much, or take another law: testbed "
        "compare TABLE."
    ),
}
