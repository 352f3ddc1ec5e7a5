"""A law as a scikit-learn estimator, for pipelines and cross-validation; scikit-learn itself is not needed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.problem import Loss
from testbed.analysis.fit.result import Fit
from testbed.analysis.laws import find_law
from testbed.errors import ConfigError


class ScalingLawRegressor:
    """Fits `law` to X, a table with the law's columns or an array of them in the law's order, and y, its response.

    The arguments are those of `fit_law`. After `fit`: `fit_` (the Fit), `params_`, `n_features_in_`.
    """

    def __init__(
        self,
        law: str = "hoffmann",
        loss: Loss | None = None,
        delta: float = 1e-3,
        fixed: Mapping[str, float] | None = None,
        n_boot: int = 200,
        seed: int = 0,
    ) -> None:
        self.law = law
        self.loss = loss
        self.delta = delta
        self.fixed = fixed
        self.n_boot = n_boot
        self.seed = seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments it was made with; there is nothing deeper."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def set_params(self, **params: Any) -> ScalingLawRegressor:
        """Change arguments; ConfigError for one that it does not have."""
        unknown = sorted(set(params) - set(self.get_params()))
        if unknown:
            raise ConfigError(
                f"ScalingLawRegressor: no argument {', '.join(unknown)}; accepted: {', '.join(self.get_params())}"
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: pd.DataFrame | ArrayLike, y: ArrayLike) -> ScalingLawRegressor:
        """Fit the law; the table may have a column run."""
        law = find_law(self.law)
        table = self._table(X).assign(**{law.response: np.asarray(y)})
        self.fit_: Fit = fit_law(
            law,
            table,
            loss=self.loss,
            delta=self.delta,
            fixed=self.fixed,
            n_boot=self.n_boot,
            seed=self.seed,
        )
        self.params_ = self.fit_.params
        self.n_features_in_ = len(law.columns)
        return self

    def predict(self, X: pd.DataFrame | ArrayLike, return_std: bool = False) -> Any:
        """The response [rows], and with `return_std` the standard deviation of a new run's (see `Fit.get_prediction`)."""
        table = self._table(X)
        if not return_std:
            return self.fit_.predict(table)
        prediction = self.fit_.get_prediction(table)
        scale = prediction.mean if self.fit_.space == "log" else 1.0
        return prediction.mean, scale * prediction.sd_obs

    def score(self, X: pd.DataFrame | ArrayLike, y: ArrayLike) -> float:
        """The coefficient of determination."""
        observed = np.asarray(y, np.float64)
        left = ((observed - self.predict(X)) ** 2).sum()
        return float(1 - left / ((observed - observed.mean()) ** 2).sum())

    def _table(self, X: pd.DataFrame | ArrayLike) -> pd.DataFrame:
        if isinstance(X, pd.DataFrame):
            return X
        names = find_law(self.law).columns
        values: NDArray[Any] = np.asarray(X)
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ConfigError(
                f"X: found shape {values.shape}; accepted: a column each for {', '.join(names)}, or a table"
            )
        return pd.DataFrame(values, columns=list(names))
