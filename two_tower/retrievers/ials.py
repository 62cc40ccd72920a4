"""A matrix factorisation by alternating least squares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from two_tower.contracts import Float32, Int32
from two_tower.errors import DataError, TrainingError
from two_tower.retrievers.collaborative import Scorer, Weighted
from two_tower.settings import Seed

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Ials(Weighted):
    """Implicit alternating least squares: everything is seen with confidence 1, what was taken with 1 + alpha * weight.

    Hu, Koren and Volinsky, 2008, "Collaborative filtering for implicit feedback datasets".  A query's vector is solved
    for anew, from its past and the items' vectors.
    """

    type: Literal["ials"] = "ials"
    factors: int = Field(128, ge=1, le=10_000)
    """The length of the vectors."""
    regularization: float = Field(10.0, ge=0, le=1e9)
    """How much long vectors are held against the fit."""
    alpha: float = Field(40.0, ge=1e-9, le=1e30)
    """How much more confidence an event of weight 1 gives."""
    iterations: int = Field(15, ge=1, le=1_000_000)
    """Times that both sides are solved for."""
    seed: Seed = 42
    """What the random numbers begin from."""

    def fit(self, matrix: csr_matrix) -> Scorer:
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.recommender_base import ModelFitError
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):  # implicit has threads of its own, each of which calls BLAS
            model = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularization,
                iterations=self.iterations,
                random_state=self.seed,
            )
            try:
                with self.naming_a_singular_matrix():
                    model.fit(_confidence(matrix, self.alpha), show_progress=False)
            except ModelFitError as error:
                raise TrainingError(
                    f"{self.name}: the vectors became NaN at an alpha of {self.alpha:g} and a regularization of "
                    f"{self.regularization:g}: lower alpha or raise regularization"
                ) from error
        return FoldedIn(model, settings=self)

    @contextlib.contextmanager
    def naming_a_singular_matrix(self) -> Iterator[None]:
        """Says in the settings' words that the equations of a vector have no single solution."""
        try:
            yield
        except ValueError as error:
            if "posv failed" not in str(error):  # the name of the solver in LAPACK
                raise
            raise DataError(
                f"{self.name}: at {self.factors} factors and a regularization of {self.regularization:g} a vector's "
                "equations have no single solution: raise regularization, or lower factors below the number of items "
                "and users"
            ) from error


class FoldedIn:
    """Scores by the product of the items' vectors with the vector that fits a past best."""

    def __init__(self, model: Any, *, settings: Ials) -> None:
        self.model, self._settings = model, settings

    def __call__(self, past: csr_matrix, users: Int32) -> Float32:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"), self._settings.naming_a_singular_matrix():
            confidence = _confidence(past, self._settings.alpha)
            vectors = self.model.recalculate_user(np.arange(past.shape[0]), confidence)
        scores: Float32 = vectors @ self.model.item_factors.T
        return scores


def _confidence(weights: csr_matrix, alpha: float) -> csr_matrix:
    confidence = weights.copy()
    confidence.data = 1 + np.float32(alpha) * confidence.data
    return confidence
