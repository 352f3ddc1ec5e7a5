"""Whether runs still learn: losses that are not finite, and those that stay above guessing for long.

Guessing every token alike has a loss of ln V nats/token, and a network starts there. One that is far
above it, on average and for long after its warm-up, has lost what it knew and will hardly find it
again; what such a run would reach says nothing of its size or its tokens. (Runs that end no better than
they started count as lost in arXiv:2309.14322, section 2.2, too, which caps their loss there.) A spike
passes in fewer steps, and one that passes is no reason to give up a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from testbed.records import RunSpec

ABOVE = 1.1  # times the loss of guessing
LONG = 128  # steps in a row, after the warm-up, whose mean loss is above it at every look


@dataclass
class Looks:
    """What the last look at the losses of a pack's runs saw: `sums` over `count` steps since they were cleared.

    `above` are the steps in a row for which each run has been far above guessing.
    """

    count: int = 0
    sums: list[float] = field(default_factory=list)
    above: list[int] = field(default_factory=list)

    def cleared(self) -> Looks:
        """The same once the sums are cleared."""
        return Looks(above=self.above)


def look(looks: Looks, sums: list[float], count: int, step: int, spec: RunSpec) -> Looks:
    """The next look: at `sums` [K] over `count` steps since they were cleared, at optimiser step `step`."""
    steps = count - looks.count
    if steps == 0:
        return looks
    before = looks.sums or [0.0] * len(sums)
    above = looks.above or [0] * len(sums)
    limit = ABOVE * guessing(spec)
    counted = [
        run + min(steps, step - spec.warmup_steps) if step > spec.warmup_steps and (new - old) / steps > limit else 0
        for run, new, old in zip(above, sums, before, strict=True)
    ]
    return Looks(count, sums, counted)


def reason_of(looks: Looks, run: int, step: int, spec: RunSpec) -> str | None:
    """Why run `run` of the pack has diverged by `step`, None where it has not."""
    where = f"by step {step} ({step * spec.batch_tokens} tokens); lower train.lr, or raise train.warmup_steps"
    if not math.isfinite(looks.sums[run]):
        return f"the training loss was not finite {where}"
    if looks.above[run] >= LONG:
        return (
            f"the training loss was above {ABOVE:g} times that of guessing ({guessing(spec):.3f} nats/token) for "
            f"{looks.above[run]} steps in a row {where}"
        )
    return None


def guessing(spec: RunSpec) -> float:
    """The loss in nats/token of one who gives every token the same probability."""
    return math.log(spec.shape.vocab_size)
