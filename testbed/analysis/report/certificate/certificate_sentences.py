"""The learning-rate certificate in sentences and tables, the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.analysis.certificate.certificate import TOLERANCE, Certificate
from testbed.analysis.certificate.coordinate_check import Coordinate
from testbed.analysis.certificate.corners import Corner, OpenInterval
from testbed.analysis.certificate.learning_rates import EXPONENTS, OptimumTrend, Shift
from testbed.analysis.certificate.outliers import Outlier
from testbed.analysis.report.study.tables import TextTable
from testbed.records import Interval
from testbed.units import show_count

_BEYOND = {
    "below": "lower than the bracket",
    "above": "higher than the bracket",
    "cliff": "next to where runs diverge",
    "unclear": "not determined by these losses",
}


def certificate_sentences(certificate: Certificate, path: str) -> list[str]:
    """The findings, part by part; `path` is the study or configuration that testbed tune is repeated with."""
    return [
        *_bracket_sentences(certificate),
        *_transfer_sentences(certificate),
        *_collapse_sentences(certificate),
        *_outlier_sentences(certificate, path),
    ]


def verdict_sentence(certificate: Certificate) -> str:
    """The certificate's answer, and whether exponents of the laws depend on it."""
    bent = any(shift.bent for shift in certificate.shifts)
    return _answer(certificate) + " Some exponents of its laws are partly an effect of its learning rates." * bent


def _answer(certificate: Certificate) -> str:
    if certificate.answer == "right":
        return f"The learning rates are right: they cost at most {100 * TOLERANCE:g} % of the loss at every rung of the grid."
    if certificate.answer == "wrong":
        return "The learning rates are NOT right on this grid: its law is partly an effect of its learning rates."
    return f"These runs do not show whether the learning rates are right to {100 * TOLERANCE:g} % of the loss."


def corners_table(certificate: Certificate) -> TextTable:
    """One row a bracket: the best multiple of the rule's rate and the excess loss at the rule's own, with intervals."""
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
    return TextTable((*titles, "lowest loss", "excess loss", interval), tuple(rows))


def rungs_table(certificate: Certificate) -> TextTable:
    """One row a rung and horizon: the best multiple there and the excess loss at the rule's own rate."""
    rows = []
    for rung in certificate.rungs:
        where = "" if rung.inside else "extrapolated"
        excess = f"{100 * rung.excess:.2f} %"
        row = (rung.role, str(rung.width), show_count(rung.tokens), f"{rung.optimum:.2f}", excess)
        rows.append((*row, _percent_range(rung.interval), where))
    interval = f"{100 * certificate.level:.3g} % interval"
    return TextTable(("role", "width", "D", "best multiple", "excess loss", interval, ""), tuple(rows))


def _bracket_sentences(certificate: Certificate) -> Iterator[str]:
    corners, brackets = certificate.own_corners, certificate.brackets
    if brackets is None or not corners:
        yield "No learning rate was bracketed, so it is not known whether the rule is right on these rungs."
        return
    for corner in corners:
        if corner.rule_diverges:
            yield f"At width {corner.width} and {show_count(corner.tokens)} tokens a run diverged at the rule's own rate."
        elif corner.status != "inside":
            yield _beyond(corner, certificate.lr)
    worst = certificate.worst
    if worst is None:
        yield "So the excess loss at the rungs is not known; widen the brackets and repeat."
    else:
        yield (
            f"By brackets at {len(corners)} corners ({brackets.runs} runs, {show_count(brackets.flops)} FLOPs) the excess loss "
            f"of the rule is largest at width {worst.width} and {show_count(worst.tokens)} tokens: {100 * worst.excess:.2f} % "
            f"({100 * certificate.level:.0f} % interval {_percent_range(worst.interval)}); {worst.optimum:.2f} times its rate "
            "would be best there."
        )
    if min(corner.seeds for corner in corners) == 1:
        yield "With one seed it is not known how the best rate varies between seeds; the intervals do not include that."
    if brackets.trend is not None:
        yield from _trend_sentences(brackets.trend)
    for rung in certificate.rungs:
        if rung.role == "target":
            yield (
                f"At the target the excess loss would be {100 * rung.excess:.2f} % ({_percent_range(rung.interval)}), by "
                "extrapolation."
            )
    yield from (_shift_sentence(shift) for shift in certificate.shifts)
    yield from _batch_sentences(certificate)


def _beyond(corner: Corner, lr: float) -> str:
    at = f"At width {corner.width} and {show_count(corner.tokens)} tokens"
    if corner.status == "unclear":
        return f"{at} the losses do not rise on both sides of a lowest one; add seeds, or give wider --factors."
    end = corner.factors[0] if corner.status == "below" else corner.factors[-1]
    if corner.status == "cliff":
        return (
            f"{at} the loss falls until runs diverge, between {corner.interval.low:g} and {corner.interval.high:g} times the "
            f"rule's rate: the best rate is just below that; the excess loss is at least {100 * corner.excess:.2f} %."
        )
    wider = f"{end / 2:.2g}" if corner.status == "below" else f"{2 * end:.2g}"
    return (
        f"{at} the best rate is {_BEYOND[corner.status]} (which ends at {end:g} times the rule's, {end * lr:.2g}): the excess "
        f"loss is at least {100 * corner.excess:.2f} %; add {wider} to --factors."
    )


def _trend_sentences(trend: OptimumTrend) -> Iterator[str]:
    parts = []
    for name, power, interval in (
        ("width", trend.width, trend.width_interval),
        ("tokens", trend.tokens, trend.tokens_interval),
    ):
        if power is not None and interval is not None:
            inside = "which includes no trend" if interval.holds(0.0) else "so the rule drifts"
            parts.append(f"as {name}^{power:+.2f} ({_range(interval, '+.2f')}, {inside})")
    if parts:
        yield f"The best multiple of the rule's rate scales {' and '.join(parts)}."


def _shift_sentence(shift: Shift) -> str:
    moved = ", ".join(
        f"{name} from {shift.params[name]:.3f} ({_range(shift.intervals[name], '.3f')}) to {shift.corrected[name]:.3f}"
        + ", out of its interval" * (name in shift.bent)
        for name in shift.params
        if name in EXPONENTS
    )
    bias = ""
    if shift.bias is not None:
        bias = f"; the excess moves its forecast by {100 * shift.bias:+.2f} %"
    return f"Without the excess loss the exponents of {shift.law} would move: {moved}{bias}."


def _batch_sentences(certificate: Certificate) -> Iterator[str]:
    """The lowest loss of each batch, at every corner with several, and how far the study's own is from the best."""
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
            "the study's batch has the lowest"
            if best is own
            else f"the study's {show_count(own.batch_tokens)} is {100 * (own.lowest / best.lowest - 1):.2f} % above the best"
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
            f"Coordinate check, {over}: the change of hidden activations does not depend on width (powers {low:+.2f} to "
            f"{high:+.2f}, within {found.tolerance:g}), so the rule for hidden matrices transfers to other widths."
        )
    else:
        moving = [_moves(kind) for kind in found.moving if kind.kind != "logits"]
        yield (
            f"Coordinate check, {over}: the change of {', '.join(moving)}, so the rule for hidden matrices does NOT transfer to "
            "other widths."
        )
    for kind in found.moving:
        if kind.kind == "logits":
            yield (
                f"The change of {_moves(kind)}: the head's learning rate is the same at every width, so far beyond these "
                "widths it would be too high or too low."
            )


def _moves(kind: Coordinate) -> str:
    return f"{kind.kind} {kind.trend} with width (power {kind.change_slope:+.2f} ± {kind.error:.2f})"


def _collapse_sentences(certificate: Certificate) -> Iterator[str]:
    found = certificate.grid.collapse if certificate.grid else None
    if found is None:
        return
    if not found.strays:
        yield (
            f"The loss curves of the {found.rungs} rungs collapse: normalised, they differ by {100 * found.spread:.1f} % of the "
            f"fall of the loss over a trunk, and seeds of one rung by {100 * found.noise:.1f} %."
        )
    for stray in found.strays:
        yield (
            f"The loss curve of width {stray.width} does not collapse with the others: it is off by "
            f"{100 * stray.departure:+.1f} % of the fall at {100 * stray.share:.0f} % of the trunk ({abs(stray.z):.1f} standard "
            f"errors); bracket it with --widths {stray.width}."
        )


def _outlier_sentences(certificate: Certificate, path: str) -> Iterator[str]:
    found = certificate.grid.outliers if certificate.grid else None
    if found is None:
        return
    if not found.found:
        yield (
            f"No outliers among {found.runs} runs in {found.cells} cells: noise of a run {100 * found.noise:.2f} %"
            + (f", scatter of cells about {found.law} {100 * found.misfit:.2f} %." if found.misfit is not None else ".")
        )
    for outlier in found.found:
        yield _outlier(outlier, found.law, path)


def _outlier(outlier: Outlier, law: str, path: str) -> str:
    off = f"{100 * outlier.departure:+.2f} %, {abs(outlier.z):.1f} standard errors"
    where = f"width {outlier.width} at {show_count(outlier.tokens)} tokens"
    if outlier.what == "run":
        return (
            f"{outlier.run} ({where}) disagrees with the other seeds of its cell ({off}): check its loss curve, and repeat the "
            f"sweep in another folder with another seed in place of grid.init_seeds = {outlier.init_seed}."
        )
    return (
        f"The cell of {where} disagrees with {law} ({off}) in all its seeds: bracket its learning rate with "
        f"testbed tune {path} --widths {outlier.width}, or add seeds to grid.init_seeds in another folder."
    )


def _range(interval: Interval | OpenInterval, form: str) -> str:
    low, high = interval.low, interval.high
    if low is None and high is None:
        return "open"
    if low is None:
        return f"below {high:{form}}"
    if high is None:
        return f"above {low:{form}}"
    return f"{low:{form}} to {high:{form}}"


def _percent_range(interval: Interval | OpenInterval) -> str:
    scaled = {
        name: None if end is None else 100 * end for name, end in (("low", interval.low), ("high", interval.high))
    }
    shown = _range(interval.model_copy(update=scaled), ".2f")
    return shown if shown == "open" else f"{shown} %"
