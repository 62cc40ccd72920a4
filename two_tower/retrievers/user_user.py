"""What users with a like past took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from two_tower.contracts import Float32, Int32
from two_tower.retrievers.collaborative import Scorer, Weighted
from two_tower.retrievers.neighbours import evidence, lengths, nearest
from two_tower.settings import MANY

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class UserUser(Weighted):
    """User-user nearest neighbours: an item's score is the sum of the cosines of the users near to the query's past.

    Resnick et al., 1994, "GroupLens", with the cosine for the correlation, times the weight that the item has for the
    near user.  A user is his own nearest neighbour, so what was taken before counts as well, where it may be retrieved.
    """

    type: Literal["user_user"] = "user_user"
    neighbours: int = Field(100, ge=1, le=MANY, description="How many users a query is near to.")

    def fit(self, matrix: csr_matrix) -> Scorer:
        return LikeUsers(matrix, neighbours=self.neighbours)


class LikeUsers:
    """Sums what the nearest users took."""

    def __init__(self, matrix: csr_matrix, *, neighbours: int) -> None:
        from scipy.sparse import diags_array

        self._matrix, self._neighbours = matrix, neighbours
        self._directions = (diags_array(1 / lengths(matrix)) @ matrix).T.tocsr()

    def __call__(self, past: csr_matrix, users: Int32) -> Float32:
        from scipy.sparse import diags_array

        near = nearest((diags_array(1 / lengths(past)) @ past @ self._directions).tocsr(), self._neighbours)
        return evidence(near @ self._matrix)
