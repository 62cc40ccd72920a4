"""A matrix factorisation that learns which of two items a user prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from two_tower.contracts import Float32, Int32
from two_tower.errors import TrainingError
from two_tower.retrievers.collaborative import Collaborative, Scorer
from two_tower.settings import Seed

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Bpr(Collaborative):
    """Bayesian personalised ranking, with the other item drawn by its popularity.

    Rendle et al., 2009, "BPR: Bayesian personalized ranking from implicit feedback".  Users have learned vectors, so
    those that the fit has not met get recent popularity; how often something was taken does not count.
    """

    type: Literal["bpr"] = "bpr"
    factors: int = Field(128, ge=1, le=10_000)
    """The length of the vectors."""
    learning_rate: float = Field(0.05, ge=1e-10, le=1000)
    """How far a step goes."""
    regularization: float = Field(0.01, ge=0, le=1e9)
    """How much long vectors are held against the fit."""
    iterations: int = Field(100, ge=1, le=1_000_000)
    """Passes over the events."""
    seed: Seed = 42
    """What the random numbers begin from."""

    def fit(self, matrix: csr_matrix) -> Scorer:
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from implicit.recommender_base import ModelFitError
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):
            model = BayesianPersonalizedRanking(
                factors=self.factors,
                learning_rate=self.learning_rate,
                regularization=self.regularization,
                iterations=self.iterations,
                num_threads=1,  # several would write into each other's updates, and no run would be like another
                random_state=self.seed,
            )
            try:
                model.fit(matrix, show_progress=False)
            except ModelFitError as error:
                raise TrainingError(
                    f"{self.name}: the vectors became NaN at a learning_rate of {self.learning_rate:g}: lower it, or "
                    f"the regularization ({self.regularization:g})"
                ) from error
        return UserVectors(model)


class UserVectors:
    """Scores by the product of the users' and items' vectors, the items' biases within."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, past: csr_matrix, users: Int32) -> Float32:
        scores: Float32 = self.model.user_factors[users] @ self.model.item_factors.T
        scores[users < 0] = -np.inf
        return scores
