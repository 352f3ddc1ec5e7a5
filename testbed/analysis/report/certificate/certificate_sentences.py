"""The tuned-grid certificate in sentences and tables, the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.analysis.certificate.certificate import TOLERANCE, Certificate
from testbed.analysis.certificate.coordinate_check import Coordinate
from testbed.analysis.certificate.corners import Corner, Range
from testbed.analysis.certificate.learning_rates import EXPONENTS, Shift, Trend
from testbed.analysis.certificate.outliers import Outlier
from testbed.analysis.report.study.tables import Table
from testbed.units import show_count

_BEYOND = {
    "below": "lower than the bracket",
    "above": "higher than the bracket",
    "cliff": "next to where runs diverge",
    "unclear": "not to be told from these losses",
}


def certificate_sentences(certificate: Certificate, path: str) -> list[str]:
    """What the certificate says, part by part; `path` is what testbed tune is repeated with."""
    return [
        *_bracket_sentences(certificate),
        *_transfer_sentences(certificate),
        *_collapse_sentences(certificate),
        *_outlier_sentences(certificate, path),
    ]


def verdict_sentence(certificate: Certificate) -> str:
    """The answer, and whether the exponents hang on it."""
    bent = any(shift.bent for shift in certificate.shifts)
    return _answer(certificate) + " Exponents of its laws are in part those of its learning rates." * bent


def _answer(certificate: Certificate) -> str:
    if certificate.answer == "right":
        return f"The learning rates are right to {100 * TOLERANCE:g} % of the loss at every rung of the grid."
    if certificate.answer == "wrong":
        return "The learning rates are NOT right on this grid: its law is in part the law of its learning rates."
    return f"Whether the learning rates are right to {100 * TOLERANCE:g} % of the loss cannot be told from this."


def corners_table(certificate: Certificate) -> Table:
    """One row a bracket: the best multiple of the rule's rate, with its range, and what the rule leaves."""
    many = len({corner.batch_tokens for corner in certificate.corners}) > 1
    rows = []
    for corner in certificate.corners:
        best = f"{corner.optimum:.2f}" if corner.optimum is not None else _BEYOND[corner.status]
        at_least = "" if corner.status == "inside" else "at least "
        rows.append(
            (
                str(corner.width),
                show_count(corner.tokens),
                *((show_count(corner.batch_tokens),) if many else ()),
                best,
                _range(corner.interval, ".2f"),
                f"{corner.curvature:.3f}" if corner.curvature is not None else "",
                f"{corner.lowest:.4f}",
                f"{at_least}{100 * corner.excess:.2f} %",
                _percent_range(corner.excess_interval),
            )
        )
    interval = f"{100 * certificate.level:.3g} % interval"
    titles = ("width", "D", *(("batch",) if many else ()), "best multiple of the LR", interval, "curvature")
    return Table((*titles, "lowest loss", "the rule leaves", interval), tuple(rows))


def rungs_table(certificate: Certificate) -> Table:
    """One row a rung and horizon: the best multiple there and what the rule leaves."""
    rows = []
    for rung in certificate.rungs:
        where = "" if rung.inside else "extrapolated"
        excess = f"{100 * rung.excess:.2f} %"
        row = (rung.role, str(rung.width), show_count(rung.tokens), f"{rung.optimum:.2f}", excess)
        rows.append((*row, _percent_range(rung.interval), where))
    interval = f"{100 * certificate.level:.3g} % interval"
    return Table(("role", "width", "D", "best multiple", "the rule leaves", interval, ""), tuple(rows))


def _bracket_sentences(certificate: Certificate) -> Iterator[str]:
    corners = certificate.own_corners
    if not corners:
        yield "No learning rate was bracketed: whether the rule is right on these rungs is not known."
        return
    for corner in corners:
        if corner.rule_diverges:
            yield f"At width {corner.width} and {show_count(corner.tokens)} tokens a run diverged at the rule's own rate."
        elif corner.status != "inside":
            yield _beyond(corner, certificate.lr)
    worst = certificate.worst
    if worst is None:
        yield "So what the rule leaves at the rungs is not known; widen the bracket and repeat."
    else:
        yield (
            f"By brackets at {len(corners)} corners ({certificate.runs} runs, {show_count(certificate.flops)} FLOPs) the rule "
            f"leaves at most {100 * worst.excess:.2f} % of the loss at any rung of the grid ({100 * certificate.level:.0f} % "
            f"interval {_percent_range(worst.interval)}): at width {worst.width} and {show_count(worst.tokens)} tokens, where "
            f"{worst.optimum:.2f} times its rate would be best."
        )
    if min(corner.seeds for corner in corners) == 1:
        yield "Of one seed it cannot be seen how the best rate differs between seeds: these intervals leave that out."
    if certificate.trend is not None:
        yield from _trend_sentences(certificate.trend)
    for rung in certificate.rungs:
        if rung.role == "target":
            yield (
                f"At the target it would leave {100 * rung.excess:.2f} % ({_percent_range(rung.interval)}), by extrapolation."
            )
    yield from (_shift_sentence(shift) for shift in certificate.shifts)
    yield from _batch_sentences(certificate)


def _beyond(corner: Corner, lr: float) -> str:
    at = f"At width {corner.width} and {show_count(corner.tokens)} tokens"
    if corner.status == "unclear":
        return f"{at} the losses do not rise to both sides: no optimum can be named; add seeds or wider --factors."
    end = corner.factors[0] if corner.status == "below" else corner.factors[-1]
    if corner.status == "cliff":
        return (
            f"{at} the loss falls until runs diverge between {corner.interval.low:g} and {corner.interval.high:g} times the "
            f"rule's rate: the best rate lies next to that cliff; the rule leaves at least {100 * corner.excess:.2f} %."
        )
    wider = f"{end / 2:.2g}" if corner.status == "below" else f"{2 * end:.2g}"
    return (
        f"{at} the best rate is {_BEYOND[corner.status]} (which ends at {end:g} times the rule's, {end * lr:.2g}): the rule "
        f"leaves at least {100 * corner.excess:.2f} %; add {wider} to --factors."
    )


def _trend_sentences(trend: Trend) -> Iterator[str]:
    parts = []
    for name, power, interval in (
        ("width", trend.width, trend.width_interval),
        ("tokens", trend.tokens, trend.tokens_interval),
    ):
        if power is not None and interval is not None:
            inside = "a rule without such a trend is within it" if interval.holds(0.0) else "so the rule drifts"
            parts.append(f"as {name}^{power:+.2f} ({_range(interval, '+.2f')}: {inside})")
    if parts:
        yield f"The best multiple of the rule's rate goes {' and '.join(parts)}."


def _shift_sentence(shift: Shift) -> str:
    moved = ", ".join(
        f"{name} from {shift.params[name]:.3f} ({_range(shift.intervals[name], '.3f')}) to {shift.corrected[name]:.3f}"
        + ", out of its interval" * (name in shift.bent)
        for name in shift.params
        if name in EXPONENTS
    )
    bias = ""
    if shift.bias is not None:
        bias = f"; of the error of its forecast {100 * shift.bias:+.2f} % would be the rule's"
    return f"Without that excess the exponents of {shift.law} would move: {moved}{bias}."


def _batch_sentences(certificate: Certificate) -> Iterator[str]:
    """The batch with the lowest loss at its best rate, at every corner that has several."""
    by_place: dict[tuple[int, int], list[Corner]] = {}
    for corner in certificate.corners:
        by_place.setdefault((corner.width, corner.tokens), []).append(corner)
    for (width, tokens), corners in by_place.items():
        if len(corners) < 2:
            continue
        own = next(corner for corner in corners if corner.batch_tokens == certificate.batch_tokens)
        losses = ", ".join(f"{show_count(corner.batch_tokens)}: {corner.lowest:.4f}" for corner in corners)
        best = min(corners, key=lambda corner: corner.lowest)
        ending = (
            "the study's is the lowest"
            if best is own
            else f"the study's {show_count(own.batch_tokens)} leaves {100 * (own.lowest / best.lowest - 1):.2f} %"
        )
        yield f"At width {width} and {show_count(tokens)} tokens the lowest loss by batch is {losses}; {ending}."


def _transfer_sentences(certificate: Certificate) -> Iterator[str]:
    found = certificate.transfer
    if found is None:
        return
    over = f"over {found.steps} steps at widths {', '.join(map(str, found.widths))}"
    hidden = [kind for kind in found.kinds if kind.kind != "logits"]
    if found.hidden_steady:
        low, high = (end(kind.change_slope for kind in hidden) for end in (min, max))
        yield (
            f"Coordinate check, {over}: what hidden activations change by does not depend on width (powers {low:+.2f} to "
            f"{high:+.2f}, within {found.tolerance:g}): the rule for hidden matrices carries over."
        )
    else:
        moving = [_moves(kind) for kind in found.moving if kind.kind != "logits"]
        yield (
            f"Coordinate check, {over}: {', '.join(moving)}: the rule for hidden matrices does NOT carry over to other widths."
        )
    for kind in found.moving:
        if kind.kind == "logits":
            yield (
                f"The change of the {_moves(kind)}: the head's rate does not follow width, so far beyond these "
                "widths the rule would be too high or too low for it."
            )


def _moves(kind: Coordinate) -> str:
    return f"{kind.kind} {kind.trend} with width (power {kind.change_slope:+.2f} ± {kind.error:.2f})"


def _collapse_sentences(certificate: Certificate) -> Iterator[str]:
    found = certificate.collapse
    if found is None:
        return
    if not found.strays:
        yield (
            f"The {found.rungs} rungs' loss curves collapse: normalised, they differ by {100 * found.spread:.1f} % of the "
            f"trunk's fall, seeds of one rung by {100 * found.noise:.1f} %."
        )
    for stray in found.strays:
        yield (
            f"The loss curve of width {stray.width} does not collapse with the others': {100 * stray.departure:+.1f} % of the "
            f"fall at {100 * stray.share:.0f} % of the trunk, {abs(stray.z):.1f} errors; bracket it: --widths {stray.width}."
        )


def _outlier_sentences(certificate: Certificate, path: str) -> Iterator[str]:
    found = certificate.outliers
    if found is None:
        return
    if not found.found:
        yield (
            f"No run and no cell lies off: {found.runs} runs in {found.cells} cells, noise {100 * found.noise:.2f} %"
            + (f", scatter of cells about {found.law} {100 * found.misfit:.2f} %." if found.misfit is not None else ".")
        )
    for outlier in found.found:
        yield _outlier(outlier, found.law, path)


def _outlier(outlier: Outlier, law: str, path: str) -> str:
    off = f"{100 * outlier.departure:+.2f} %, {abs(outlier.z):.1f} errors"
    where = f"width {outlier.width} at {show_count(outlier.tokens)} tokens"
    if outlier.what == "run":
        return (
            f"{outlier.run} ({where}) lies off the other seeds of its cell ({off}): look at its curve, and repeat the sweep in "
            f"another folder with another seed in the place of grid.init_seeds = {outlier.init_seed}."
        )
    return (
        f"The cell of {where} lies off {law} ({off}) with all its seeds: bracket its rate with "
        f"testbed tune {path} --widths {outlier.width}, or add seeds to grid.init_seeds in another folder."
    )


def _range(interval: Range, form: str) -> str:
    low, high = interval.low, interval.high
    if low is None and high is None:
        return "open"
    if low is None:
        return f"below {high:{form}}"
    if high is None:
        return f"above {low:{form}}"
    return f"{low:{form}} to {high:{form}}"


def _percent_range(interval: Range) -> str:
    scaled = {
        name: None if end is None else 100 * end for name, end in (("low", interval.low), ("high", interval.high))
    }
    shown = _range(interval.model_copy(update=scaled), ".2f")
    return shown if shown == "open" else f"{shown} %"
