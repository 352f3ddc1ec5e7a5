"""A scaling law as a scikit-learn regressor, for pipelines, grid searches and cross-validation.

Needs scikit-learn, which the extra [sklearn] brings; nothing else of the package imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from testbed.analysis.fit.fitting import fit_law
from testbed.analysis.fit.problem import Loss
from testbed.analysis.fit.result import Fit
from testbed.analysis.laws import Law, find_law
from testbed.errors import ConfigError

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(
        "ScalingLawRegressor needs scikit-learn, which the extra [sklearn] brings: pip install scikit-learn",
        name=error.name,
    ) from error


class ScalingLawRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A law as an estimator of its response y from X: a table with the law's columns, or an array of them in its order.

    The parameters are those of `fit_law`. Fitted attributes: `fit_` (the `Fit`), `params_` (its parameters in
    natural units), `n_features_in_`, and `feature_names_in_` where X was a table.

    >>> import numpy as np
    >>> n, tokens = (grid.ravel() for grid in np.meshgrid([1e7, 3e7, 1e8, 3e8], [1e9, 1e10, 1e11]))
    >>> loss = 1.7 + 400 / n**0.34 + 410 / tokens**0.28
    >>> regressor = ScalingLawRegressor(n_boot=0).fit(np.column_stack([n, tokens]), loss)
    >>> regressor.params_.round(2).to_dict()
    {'A': 400.0, 'B': 410.0, 'E': 1.7, 'alpha': 0.34, 'beta': 0.28}
    >>> regressor.predict([[1e9, 1e11]]).round(3)
    array([2.389])
    """

    def __init__(
        self,
        law: Law | str = "hoffmann",
        loss: Loss | None = None,
        delta: float = 1e-3,
        fixed: Mapping[str, float] | None = None,
        units: Mapping[str, str] | None = None,
        n_boot: int = 200,
        seed: int = 0,
    ) -> None:
        self.law = law
        self.loss = loss
        self.delta = delta
        self.fixed = fixed
        self.units = units
        self.n_boot = n_boot
        self.seed = seed

    def fit(self, X: pd.DataFrame | ArrayLike, y: ArrayLike) -> Self:
        """Fit the law to X and its response y [rows]; where X is a table, its column `run` groups the rows of one run.

        Raises ConfigError for an array of another width and parameters that `fit_law` refuses, TableError for
        values that it refuses.
        """
        law = self._law
        table = self._table(X).assign(**{law.response: np.asarray(y)})
        self.fit_: Fit = fit_law(
            law,
            table,
            units=self.units,
            loss=self.loss,
            delta=self.delta,
            fixed=self.fixed,
            n_boot=self.n_boot,
            seed=self.seed,
        )
        self.params_ = self.fit_.params
        self.n_features_in_ = np.shape(X)[1]
        if isinstance(X, pd.DataFrame):
            self.feature_names_in_ = np.asarray(X.columns, object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def predict(self, X: pd.DataFrame | ArrayLike, return_std: bool = False) -> Any:
        """The response [rows]; with `return_std` also the standard deviation [rows] of one new run's response.

        Both are in the response's units; see `Fit.get_prediction` for what the deviation consists of. Raises
        sklearn's NotFittedError before `fit`.
        """
        check_is_fitted(self)
        table = self._table(X)
        if not return_std:
            return self.fit_.predict(table)
        prediction = self.fit_.get_prediction(table)
        scale = prediction.mean if self.fit_.space == "log" else 1.0
        return prediction.mean, scale * prediction.sd_obs

    @property
    def _law(self) -> Law:
        return find_law(self.law) if isinstance(self.law, str) else self.law

    def _table(self, X: pd.DataFrame | ArrayLike) -> pd.DataFrame:
        if isinstance(X, pd.DataFrame):
            return X
        names = self._law.columns
        values: NDArray[Any] = np.asarray(X)
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ConfigError(
                f"X: found shape {values.shape}; accepted: a column each for {', '.join(names)}, or a table"
            )
        return pd.DataFrame(values, columns=list(names))
