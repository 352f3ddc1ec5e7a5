"""The learning curve of a data set whose utility decays each time it is repeated, and of mixed data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.laws.law import Columns, Law, Parameter, Theta, amplitude, constant, exponent, scale
from testbed.errors import TableError

_MOST_EPOCHS = 20_000


class Goyal(Law):
    """Loss after D tokens from a pool of U unique ones, arXiv:2404.07177, section 4.

    The first pass is a power law of utility b; the utility of every further pass is less, halved each
    `tau` passes: log(L - d) falls in pass j by b 2^(-(j-1)/tau) times the log of the growth of D. So a
    curve is continuous, and at whole epochs it is the paper's product. D and U in tokens (or examples).
    The released code lets d shrink as well, and its published b and tau are of that form: `goyal_code`.
    """

    name = "goyal"
    parameters = (
        amplitude("a", {"tokens": "b"}),
        constant("d"),
        exponent("b", (0.02, 1.0)),
        scale("tau", (0.5, 50.0)),
    )
    columns = ("tokens", "unique_tokens")
    formula = r"L = d + a U^{-b} \prod_{j=2} (\frac{D_j}{D_{j-1}})^{-b 2^{-(j-1)/\tau}}"
    source = "arXiv:2404.07177, sec. 4"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Tokens; `growth` [n, passes], how much the logarithm of the tokens seen grew in each pass (the first: itself).

        TableError where a row has more passes than the law can tell apart.
        """
        tokens, unique = (np.asarray(columns[name], np.float64) for name in ("tokens", "unique_tokens"))
        return {"tokens": tokens, "growth": _growth(tokens, unique)}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss [B, n] in nats/token."""
        growth = columns["growth"]
        utility = np.exp(-np.log(2.0) * np.arange(growth.shape[1]) / theta["tau"])  # [B, passes]
        return np.asarray(theta["d"] + theta["a"] * np.exp(-theta["b"] * (utility @ growth.T)))


class GoyalCode(Law):
    """Loss after D tokens from a pool of U unique ones as the code of arXiv:2404.07177 has it.

    As `goyal` with a = n_0^b, and each further pass shrinks the whole loss, d included:
    L = ((n_1 / n_0)^-b + d) times the passes' (D_j / D_j-1)^-b_j, b_j = b 2^(-(j-1)/tau). The paper's
    published parameters come from that code (its a is 100,000 / n_0 samples, its b the negative of b).
    """

    name = "goyal_code"
    pools: ClassVar[int] = 1
    parameters: ClassVar[tuple[Parameter, ...]] = (
        amplitude("n_0", {"tokens": 1.0}, power="b"),
        constant("d"),
        exponent("b", (0.02, 1.0)),
        scale("tau", (0.5, 50.0)),
    )
    columns: ClassVar[tuple[str, ...]] = ("tokens", "unique_tokens")
    formula = r"L = (d + (\frac{n_0}{n_1})^{b}) \prod_{j=2} (\frac{D_j}{D_{j-1}})^{-b 2^{-(j-1)/\tau}}"
    source = "arXiv:2404.07177, objective of the released code"

    def prepare(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Tokens; `growth` as in `goyal`; `parts` [n, pools], each pool's part of a row's mixture."""
        tokens, unique = (np.asarray(columns[name], np.float64) for name in ("tokens", "unique_tokens"))
        if min(tokens.min(), unique.min()) <= 0:
            raise TableError("tokens and unique_tokens: found values of 0 or less; drop or correct such rows")
        return {"tokens": tokens, "growth": _growth(tokens, unique), "parts": self._parts(columns, len(tokens))}

    def value(self, theta: Theta, columns: Columns) -> NDArray[Any]:
        """Loss or error [B, n]."""
        first, later, _ = self._exponents(theta, columns)
        return np.asarray((self._start(theta, columns, first) + theta["d"]) * np.exp(-later))

    def gradient(self, theta: Theta, columns: Columns) -> dict[str, NDArray[Any]]:
        """Derivatives of `value` by each parameter, each [B, n]."""
        first, later, pools = self._exponents(theta, columns)
        start, kept = self._start(theta, columns, first), np.exp(-later)
        whole = (start + theta["d"]) * kept
        by_first = -start * kept * (columns["growth"][:, 0] - np.log(theta["n_0"]))
        slopes = {"n_0": start * kept * first / theta["n_0"], "d": kept}
        for (b, tau), (part, reached, by_life) in zip(self._names(), pools, strict=True):
            slopes[b] = part * (by_first - whole * reached)
            slopes[tau] = -whole * part * theta[b] * by_life
        return slopes

    @staticmethod
    def _start(theta: Theta, columns: Columns, first: NDArray[Any]) -> NDArray[Any]:
        """(n_1 / n_0)^-b of the first pass [B, n]."""
        return np.asarray(np.exp(-first * (columns["growth"][:, 0] - np.log(theta["n_0"]))))

    def _exponents(
        self, theta: Theta, columns: Columns
    ) -> tuple[NDArray[Any], NDArray[Any], list[tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]]]:
        """B of the first pass [B, n]; what further passes take off the log of the loss [B, n]; and of each pool:
        its part of a row [n], the growth weighted by its decay [B, n], and the derivative of that by tau.
        """
        mixed = columns["parts"].sum(axis=1)
        first: Any = 0.0
        later: Any = 0.0
        pools = []
        for pool, (b, tau) in enumerate(self._names()):
            part = columns["parts"][:, pool] / mixed
            reached, by_life = _reached(theta[tau], columns["growth"][:, 1:], mixed)
            first, later = first + part * theta[b], later + part * theta[b] * reached
            pools.append((part, reached, by_life))
        return np.asarray(first), np.asarray(later), pools

    def _parts(self, columns: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        return np.ones((rows, 1))

    def _names(self) -> list[tuple[str, str]]:
        """The names of b and tau of each pool."""
        return [("b", "tau")]


class GoyalPools(GoyalCode):
    """Loss on a mixture of two pools of different quality, arXiv:2404.07177, theorem 1.

    Pools mixed in equal parts act as one whose utility is the mean of theirs, each with a half-life as many
    times longer as there are pools, since a pass through all is a pass through each. `pool_1` and `pool_2`
    are 1 where the pool is in a row's training data, else 0 (all 0 stands for all pools);
    `unique_tokens` those of all its pools together.
    Rows of single pools give b_i and tau_i, and mixtures follow: hold or fit, then predict. n_0 and d are
    the same for all pools.
    """

    name = "goyal_pools"
    pools = 2
    parameters = (
        scale("n_0", (1e-6, 1.0), column="tokens"),
        constant("d"),
        *(exponent(f"b_{i}", (0.02, 1.0)) for i in (1, 2)),
        *(scale(f"tau_{i}", (0.5, 50.0)) for i in (1, 2)),
    )
    columns: ClassVar[tuple[str, ...]] = ("tokens", "unique_tokens", "pool_1", "pool_2")
    positive = False
    formula = r"L = (d + (\frac{n_0}{n_1})^{b^{(1)}}) \prod_{j=2} (\frac{D_j}{D_{j-1}})^{-b^{(j)}}"
    source = "arXiv:2404.07177, theorem 1 with the objective of the released code"

    def _parts(self, columns: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        parts = np.column_stack([np.asarray(columns[f"pool_{i + 1}"], np.float64) for i in range(self.pools)])
        wrong = ((parts < 0) | (parts > 1)).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TableError(
                f"pool_1 to pool_{self.pools}: found {parts[row].tolist()} in row {row}; accepted: 1 for each pool "
                "that is in the row's training data, 0 for the others"
            )
        parts[parts.sum(axis=1) == 0] = 1.0
        return parts

    def _names(self) -> list[tuple[str, str]]:
        return [(f"b_{i + 1}", f"tau_{i + 1}") for i in range(self.pools)]


class GoyalPools4(GoyalPools):
    """As `goyal_pools`, with four pools."""

    name = "goyal_pools4"
    pools = 4
    parameters = (
        scale("n_0", (1e-6, 1.0), column="tokens"),
        constant("d"),
        *(exponent(f"b_{i}", (0.02, 1.0)) for i in (1, 2, 3, 4)),
        *(scale(f"tau_{i}", (0.5, 50.0)) for i in (1, 2, 3, 4)),
    )
    columns = ("tokens", "unique_tokens", "pool_1", "pool_2", "pool_3", "pool_4")


def _reached(tau: NDArray[Any], growth: NDArray[np.float64], mixed: NDArray[np.float64]) -> tuple[Any, Any]:
    """The growth [n, passes] of further passes, weighted by a decay that is halved each tau [B, 1] x `mixed` [n] passes."""
    reached = np.empty((len(tau), len(growth)), tau.dtype)
    by_life = np.empty_like(reached)
    halvings = np.log(2.0) * np.arange(1, growth.shape[1] + 1)
    for pools in np.unique(mixed):
        rows = mixed == pools
        decay = np.exp(-halvings / (tau * pools))
        reached[:, rows] = decay @ growth[rows].T
        by_life[:, rows] = (decay * halvings) @ growth[rows].T / (tau**2 * pools)
    return reached, by_life


def _growth(tokens: NDArray[np.float64], unique: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much the logarithm of the tokens seen grew in each pass [n, passes]; in the first: itself."""
    epochs = tokens / unique
    if epochs.max() > _MOST_EPOCHS:
        raise TableError(
            f"tokens / unique_tokens is {epochs.max():.3g} in row {int(epochs.argmax())}; goyal accepts up to "
            f"{_MOST_EPOCHS} epochs; check the units of both columns or leave such rows out"
        )
    passes = np.arange(1, max(int(np.ceil(epochs.max())), 1))
    seen = np.clip(epochs[:, None], passes, passes + 1)
    return np.column_stack([np.log(np.minimum(tokens, unique)), np.log(seen / passes)])
