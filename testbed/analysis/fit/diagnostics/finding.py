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
        "are not an optimum; check the table for values that no law could give, or hold a parameter."
    ),
    "unidentified": (
        "This table does not determine {parameters} of {law}: {reasons}. Add runs that span more, hold a parameter at a "
        "value, or take a law with fewer; the curve may still serve within the data, but read nothing into these parameters."
    ),
    "E-at-boundary": (
        "{where}: the data do not show an irreducible {response}, and the exponents have taken its place; use a law without "
        "{name} or runs nearer to it, and extrapolate with prediction intervals."
    ),
    "term-at-zero": "{where}: the data do not show that term{gone}; use a law without it, or runs where it matters.",
    # which rows, which loss: `moved` is "beta goes from 0.45 to 0.37 (1.6 standard errors)"
    "outlier-sensitivity": (
        "Without {rows} ({share:g} % of the rows) {moved}: look at those rows, leave out runs that diverged or were cut "
        "short, and give both answers{seen}."
    ),
    "delta-sensitivity": (
        "With {other} in the place of {own} {moved}: the answer depends on the weight of rows far from the law; look at "
        "the largest residuals, and give the range{seen}."
    ),
    "selection-sensitivity": (
        "{rows} {moved}, {chances:.1f} times what chance allows: one law does not hold over all these runs; fit those that "
        "are like the target, and trust no interval of the parameters{seen}."
    ),
    "under-trained": (
        "{count} of {whole} rows have fewer than {least:g} tokens per parameter, and without them {moved}, {chances:.1f} "
        "times what chance allows: leave them out unless the target is such a run{seen}."
    ),
    "under-trained: most": (
        "{count} of {whole} rows have fewer than {least:g} tokens per parameter, and without them too few are left to see "
        "what they do: such runs often do not follow the law of longer ones; train some longer."
    ),
    "influential-run": (
        "Without run {run} alone {moved}: check that run, and repeat it or train another near it{seen}."
    ),
    # the residuals
    "uneven-scatter": (
        "The scatter about the law is {times:.1f} times as large at {where} {axis} as at the other end ({low:.2g} against "
        "{high:.2g}): intervals by resampling allow for that, profiles and AICc do not."
    ),
    "residual-trend": (
        "The residuals go with {axis}: from small to large their medians are {medians}. The law does not bend as the data "
        "do: compare laws, and extrapolate with prediction intervals, which allow for misfit."
    ),
    "biased-at-the-largest": (
        "The {runs} runs of most compute lie {median} {side} the law ({errors:.1f} standard errors): an extrapolation will "
        "be off to that side; fit the larger runs alone, or use prediction intervals."
    ),
    "misfit-beyond-noise": (
        "The means of the {designs} designs lie {apart} (sd) off the law, {times:.1f} times what the noise between seeds "
        "({noise}) leaves in them: that is the law's misfit, and more seeds will not help; compare laws, and use prediction "
        "intervals."
    ),
    "far-rows": (
        "{which} the law{more}: did they diverge, or are their sizes wrong? They widen every interval; {remedy}."
    ),
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
        "train at least {enough}."
    ),
    "few-runs: one": (
        "A single run: its points were resampled as if each were a run, and since they share its noise, standard errors and "
        "intervals are too small; train at least {enough} runs."
    ),
    "checkpoints-as-runs": (
        "The {points} points are of {runs} runs, and points of one run share its noise: whole runs were resampled, and "
        "{runs} is the number of observations."
    ),
    "checkpoints-as-runs: no column": (
        "{in_order} of {points} points come as one n with ever more tokens, like checkpoints of one run, and no column says "
        "which run they are of: every point was taken for a run, and if they are checkpoints the standard errors are up to "
        "7 times too small; name the column of runs."
    ),
    "duplicates": (
        "{rows} rows repeat another exactly (the first is row {first} of those fitted) and count twice; drop them unless "
        "they are other runs that happened to agree."
    ),
    "unit": (
        "The loss does not look like nats per token ({why}): E and the amplitudes are in its unit, what is known of E in "
        "nats does not carry over, and a loss from which something was subtracted may have E below 0."
    ),
    "C-definition": (
        "{column} was computed as {source}: an error in {other} then moves both, in opposite directions, and bends the "
        "exponents; count the {column} that were trained on, and where values were read off a figure take the exponents "
        "with that in mind."
    ),
    "mid-schedule": (
        "{rows} of {whole} losses were taken before the learning rate had decayed ({sign}): they are higher than those of "
        "finished runs of as many tokens, by no constant factor; fit finished runs only."
    ),
    "embedding-count": (
        "With {column} in one fit and {other} in another: {moved}. Say which count is meant, and use the same for the target."
    ),
    "embedding-count: one": (
        "Nothing says whether {column} counts embeddings; from {smallest:.3g} parameters on they are a large share, and the "
        "exponents depend on it; say which it is, and compare with laws of the same count only."
    ),
    # what is asked beside the fit: a target, coefficients that someone gives, parabolas, other laws
    "far-target": (
        "The target is far from the data: {reasons}. Intervals were tested up to 2.5 decades and within that range; rely on "
        "a wide one at most, and train a run between."
    ),
    "rounded-params": (
        "{given}: with so few digits the {response} is known to {percent:.2g} % only, most of it from {worst}; take at "
        "least {digits} digits, from the source's own files."
    ),
    "isoflop-parabola": (
        "Parabolas through windows this wide ({widest:.1f} decades of N at most, {off_centre} of {windows} off centre) miss "
        "the optimal N of {law} by up to {worst:.2g} decades, and its exponent by {slope:+.2g}, without any noise{none}: "
        "keep to runs near each minimum, or fit a law to all of them (approach 3)."
    ),
    "law-selection": (
        "AICc prefers {fits} (by {apart:.3g} over {predicts}), but {predicts} predicted the larger runs best (mean error "
        "{best:.2g} against {error:.2g}): neither says which extrapolates best, so look at the predictions of all of them."
    ),
    "failed-before": (
        "At the cuts the intervals of {law} would have had to be {kappa:.2g} times as wide to keep their promise: it has "
        "failed on this very table before, so widen its interval by as much."
    ),
}
