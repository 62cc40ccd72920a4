"""The retrievers that learn from a users x items matrix, against the textbook's dense formulas."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_artefacts import DAY, RECENT, TEST_FROM, VALIDATION_FROM, Log, random_log, write_prepared

from two_tower.artifacts import open_artifact, write_artifact
from two_tower.config import EvaluationSettings
from two_tower.contracts import Retrieved, RetrieverSettings
from two_tower.errors import DataError, TrainingError
from two_tower.padding import padded
from two_tower.retrievers import data_sizes
from two_tower.retrievers.collaborative import CollaborativeRanking
from two_tower.retrievers.ials import FoldedIn
from two_tower.settings import MANY

Dense = np.ndarray
Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")
ITEMS, USERS, TAKEN = 60, 30, 50
HALF_LIFE = 20
CUTOFF = {"validation": VALIDATION_FROM, "test": TEST_FROM}
UNAVAILABLE = [3, 17, 55]
KINDS = ["item_item", "user_user", "ease", "ials", "bpr"]
SMALL: dict[str, dict[str, object]] = {"ials": {"factors": 8, "iterations": 3}, "bpr": {"factors": 8, "iterations": 20}}


@pytest.fixture(scope="module")
def log() -> Log:
    """Users who differ in how much they take, some unknown to training; the last ten items are never taken."""
    some = random_log(users=USERS - 4, items=TAKEN, events=700)
    late = [(USERS - 4 + number % 4, number * 7 % TAKEN, VALIDATION_FROM + number * DAY) for number in range(16)]
    # A user without a test query has no history that shows how often and when he took things in the validation window.
    late += [(user, user, TEST_FROM + DAY) for user in range(USERS)]
    return sorted(some + late, key=lambda event: (event[2], event[0], event[1]))


@pytest.fixture(scope="module")
def prepared(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Histories that show the whole validation window, but not the whole past.
    return write_prepared(tmp_path_factory.mktemp("prepared"), log, items=ITEMS, history_length=12)


def settings(kind: str, **given: object) -> RetrieverSettings:
    section = {"type": kind, **SMALL.get(kind, {}), **given}
    return EvaluationSettings.model_validate({"baselines": [section]}).baselines[0]


def built(prepared: Path, split: Split, kind: str, **given: object) -> CollaborativeRanking:
    retriever = settings(kind, **given).build(str(prepared), split=split)
    assert isinstance(retriever, CollaborativeRanking)
    return retriever


def queries(prepared: Path, split: str) -> pa.Table:
    return open_artifact(prepared, "prepared_data").table(split)


def weights(log: Log, split: Split, counts: str = "binary", half_life: float | None = None) -> Dense:
    """The users x items matrix by hand."""
    events = [event for event in log if event[2] < CUTOFF[split]]
    latest = {user: max(time for who, _, time in events if who == user) for user in {event[0] for event in events}}
    matrix = np.zeros((USERS, ITEMS))
    for user, item, time in events:
        each = 1.0 if half_life is None else 0.5 ** ((latest[user] - time) / (half_life * DAY))
        matrix[user, item] = max(matrix[user, item], each) if counts == "binary" else matrix[user, item] + each
    return np.log2(1 + matrix) if counts == "log" else matrix


def popular(log: Log, split: Split) -> list[int]:
    """All items by recent popularity, by hand."""
    cutoff = CUTOFF[split]
    recent = Counter(item for _, item, time in log if cutoff - RECENT <= time < cutoff)
    ever = Counter(item for _, item, time in log if time < cutoff)
    return sorted(range(ITEMS), key=lambda item: (-recent[item], -ever[item], item))


def assert_ranked(found: Retrieved, scores: Dense, order: list[int]) -> None:
    """`found` has every item: by the scores, of which -inf is none, then in the given order."""
    k = found.items.shape[1]
    assert found.items.dtype == np.int32 and found.scores.dtype == np.float32
    for row, by_hand in enumerate(scores):
        scored = [item for item in order if by_hand[item] > -np.inf]
        rest = [item for item in order if by_hand[item] == -np.inf]
        n = min(k, len(scored))
        items, values = found.items[row].tolist(), found.scores[row]
        np.testing.assert_allclose(values[:n], by_hand[items[:n]], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(values[:n], sorted(by_hand[scored], reverse=True)[:n], rtol=1e-3, atol=1e-5)
        behind = [*rest, *[-1] * k][: k - n]
        assert len(set(items[:n])) == n and items[n:] == behind
        assert (np.diff(values[np.isfinite(values)]) <= 0).all()
        assert np.isfinite(values).tolist() == [item >= 0 for item in items]


def best_of_each_row(similarity: Dense, count: int) -> Dense:
    kept = np.zeros_like(similarity)
    for row, values in enumerate(similarity):
        chosen = np.argsort(-values, kind="stable")[:count]
        kept[row, chosen] = values[chosen]
    return kept


def cosines(rows: Dense, others: Dense, shrink: float = 0) -> Dense:
    norms = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(others, axis=1)
    return np.divide(rows @ others.T, norms + shrink, out=np.zeros((len(rows), len(others))), where=norms > 0)


def with_evidence(scores: Dense) -> Dense:
    return np.where(scores > 1e-12, scores, -np.inf)


def item_item(matrix: Dense, past: Dense, *, neighbours: int, shrink: float) -> Dense:
    similarity = cosines(matrix.T, matrix.T, shrink)
    itself = np.diag(np.diag(similarity))
    return with_evidence(past @ (best_of_each_row(similarity - itself, neighbours) + itself))


def bm25(matrix: Dense, past: Dense, *, neighbours: int, k1: float, b: float) -> Dense:
    """Robertson's weights with items as documents and users as terms; the idf is log(N / (1 + df))."""
    columns = matrix.T
    lengths = columns.sum(axis=1, keepdims=True)
    idf = np.log(len(columns)) - np.log1p((columns > 0).sum(axis=0))
    weighted = columns * (k1 + 1) / (k1 * (1 - b + b * lengths / lengths.mean()) + columns) * idf
    similarity = weighted @ weighted.T
    itself = np.diag(np.diag(similarity))
    return with_evidence(past @ (best_of_each_row(similarity - itself, neighbours) + itself))


def user_user(matrix: Dense, past: Dense, *, neighbours: int) -> Dense:
    return with_evidence(best_of_each_row(cosines(past, matrix), neighbours) @ matrix)


def ease(matrix: Dense, past: Dense, *, regularization: float) -> Dense:
    inverse = np.linalg.inv(matrix.T @ matrix + regularization * np.eye(ITEMS))
    learned = -inverse / np.diag(inverse)
    np.fill_diagonal(learned, 0)
    return past @ learned


BY_HAND: list[tuple[str, dict[str, float], Callable[..., Dense]]] = [
    ("item_item", {"neighbours": 1000, "shrink": 0.0}, item_item),
    ("item_item", {"neighbours": 1000, "shrink": 3.0}, item_item),
    ("user_user", {"neighbours": 1000}, user_user),
    ("ease", {"regularization": 5.0}, ease),
]
NEAREST: list[tuple[str, dict[str, float], Callable[..., Dense]]] = [
    ("item_item", {"neighbours": 6, "shrink": 0.5}, item_item),
    ("user_user", {"neighbours": 5}, user_user),
]
WEIGHINGS = [("binary", None), ("log", None), ("linear", HALF_LIFE), ("binary", HALF_LIFE)]
CASES = [(*case, *weighing) for case in BY_HAND for weighing in WEIGHINGS]
CASES += [(*case, "linear", HALF_LIFE) for case in NEAREST]  # where no two neighbours are equally near


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("kind", "given", "by_hand", "counts", "half_life"), CASES)
def test_scores_by_hand(
    prepared: Path,
    log: Log,
    kind: str,
    given: dict[str, float],
    by_hand: Callable[..., Dense],
    counts: str,
    half_life: int | None,
    split: Split,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("two_tower.retrievers.collaborative.BLOCK", 7)
    monkeypatch.setattr("two_tower.retrievers.item_item.CELLS", 7 * ITEMS)
    monkeypatch.setattr("two_tower.retrievers.ease.ROWS", 7)
    duration = None if half_life is None else f"{half_life}d"
    asked = queries(prepared, split)
    found = built(prepared, split, kind, counts=counts, half_life=duration, **given).retrieve(asked, ITEMS + 3)
    matrix = weights(log, split, counts, half_life)
    past = matrix[asked["user"].to_numpy()]
    assert_ranked(found, unheard(by_hand(matrix, past, **given), matrix, past), popular(log, split))


def unheard(scores: Dense, matrix: Dense, past: Dense) -> Dense:
    """The scores without those of queries that have no past, and of items that nobody took."""
    scores = scores.astype(float)
    scores[past.sum(axis=1) == 0] = -np.inf
    scores[:, matrix.sum(axis=0) == 0] = -np.inf
    return scores


@pytest.mark.parametrize("split", SPLITS)
def test_bm25_by_hand(prepared: Path, log: Log, split: Split) -> None:
    asked = queries(prepared, split)
    given = {"neighbours": 1000, "k1": 1.5, "b": 0.4}
    found = built(prepared, split, "item_item", similarity="bm25", counts="linear", **given).retrieve(asked, ITEMS)
    matrix = weights(log, split, "linear")
    past = matrix[asked["user"].to_numpy()]
    assert_ranked(found, unheard(bm25(matrix, past, **given), matrix, past), popular(log, split))


@pytest.mark.parametrize("split", SPLITS)
def test_ials_folds_a_past_in(prepared: Path, log: Log, split: Split) -> None:
    asked = queries(prepared, split)
    retriever = built(prepared, split, "ials", counts="log", alpha=5.0, regularization=2.0)
    factors = retriever.scorer.model.item_factors.astype(float)
    matrix = weights(log, split, "log")
    past = matrix[asked["user"].to_numpy()]
    vectors = []
    for row in past:  # (Y'CY + regularization * I)^-1 Y'C p
        confidence = 1 + 5 * row
        left = factors.T @ (confidence[:, None] * factors) + 2 * np.eye(8)
        vectors.append(np.linalg.solve(left, factors.T @ (confidence * (row > 0))))
    scores = np.array(vectors) @ factors.T
    assert_ranked(retriever.retrieve(asked, ITEMS), unheard(scores, matrix, past), popular(log, split))


def test_ials_lowers_the_papers_objective(prepared: Path, log: Log) -> None:
    matrix = weights(log, "test")
    losses = []
    for iterations in (1, 15):
        retriever = built(prepared, "test", "ials", alpha=5.0, regularization=1.0, iterations=iterations)
        model = retriever.scorer.model
        users, items = model.user_factors.astype(float), model.item_factors.astype(float)
        errors = (1 + 5 * matrix) * ((matrix > 0) - users @ items.T) ** 2
        losses.append(errors.sum() + (users**2).sum() + (items**2).sum())
    assert losses[1] < 0.95 * losses[0]


@pytest.mark.parametrize("split", SPLITS)
def test_bpr_knows_the_users_of_its_fit(prepared: Path, log: Log, split: Split) -> None:
    asked = queries(prepared, split)
    retriever = built(prepared, split, "bpr")
    matrix = weights(log, split)
    users = asked["user"].to_numpy()
    model = retriever.scorer.model
    vectors = np.zeros((USERS, model.user_factors.shape[1]))
    vectors[: len(model.user_factors)] = model.user_factors
    scores = unheard(vectors[users] @ model.item_factors.T, matrix, matrix[users])
    assert_ranked(retriever.retrieve(asked, ITEMS), scores, popular(log, split))


def test_bpr_prefers_what_was_taken(prepared: Path, log: Log) -> None:
    matrix = weights(log, "test")
    model = built(prepared, "test", "bpr", iterations=200).scorer.model
    users = np.flatnonzero(matrix.sum(axis=1))
    scores = model.user_factors[users] @ model.item_factors.T
    taken = matrix[users] > 0
    gaps = [row[yes][:, None] > row[~yes & (matrix.sum(axis=0) > 0)] for row, yes in zip(scores, taken, strict=True)]
    assert np.mean([gap.mean() for gap in gaps]) > 0.8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 20, ITEMS])
def test_exclusions_leave_the_same_order_without_the_forbidden(prepared: Path, kind: str, k: int) -> None:
    asked = queries(prepared, "test")
    retriever = built(prepared, "test", kind)
    full, seen = retriever.retrieve(asked, ITEMS).items.tolist(), asked["seen"].to_pylist()
    assert all(sorted(row) == list(range(ITEMS)) for row in full)
    found = retriever.retrieve(asked, k, exclude=padded(asked["seen"]))
    for row, forbidden in enumerate(seen):
        expected = [item for item in full[row] if item not in forbidden][:k]
        assert found.items[row].tolist() == expected + [-1] * (k - len(expected))
        assert np.isfinite(found.scores[row]).sum() == len(expected)


def rewritten(prepared: Path, folder: Path, change: Callable[[str, pa.Table], pa.Table], **extra: object) -> Path:
    """A copy of the prepared data with each of its tables changed."""
    with write_artifact(folder, "prepared_data", extra=extra) as artifact:
        for path in sorted(prepared.rglob("*.parquet")):
            name = str(path.relative_to(prepared))
            pq.write_table(change(name, pq.read_table(path)), artifact.path(name))
    return folder


def replaced(table: pa.Table, name: str, values: object) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def unavailable(name: str, table: pa.Table) -> pa.Table:
    if name != "items.parquet":
        return table
    return replaced(table, "available", [item not in UNAVAILABLE for item in range(ITEMS)])


@pytest.mark.parametrize("kind", KINDS)
def test_items_that_are_not_available_are_learned_from_alone(prepared: Path, tmp_path: Path, kind: str) -> None:
    asked = queries(prepared, "test")
    full = built(prepared, "test", kind).retrieve(asked, ITEMS)
    some = built(rewritten(prepared, tmp_path / "some", unavailable), "test", kind).retrieve(asked, ITEMS)
    left = ITEMS - len(UNAVAILABLE)
    for row in range(len(asked)):
        assert some.items[row, :left].tolist() == [item for item in full.items[row] if item not in UNAVAILABLE]
    assert (some.items[:, left:] == -1).all() and (some.scores[:, left:] == -np.inf).all()


@pytest.mark.parametrize("kind", KINDS)
def test_users_without_a_past_get_recent_popularity(prepared: Path, log: Log, kind: str) -> None:
    asked = queries(prepared, "test").slice(0, 3)
    asked = replaced(replaced(asked, "user", [-1, USERS + 100, USERS - 1]), "history", [[], [], []])
    asked = replaced(replaced(asked, "history_times", [[]] * 3), "history_roles", [[]] * 3)
    retriever = built(prepared, "test", kind)
    found = retriever.retrieve(asked, 10)
    assert (found.items[:2] == popular(log, "test")[:10]).all()
    assert found.items[2].tolist() != popular(log, "test")[:10]  # first seen in the validation window
    validation = built(prepared, "validation", kind).retrieve(asked, 10)
    assert (validation.items == popular(log, "validation")[:10]).all()
    assert retriever.retrieve(asked.slice(0, 0), 5).items.shape == (0, 5)


@pytest.mark.parametrize("kind", ["item_item", "user_user", "ease", "ials"])
def test_an_unknown_user_is_known_by_the_history(prepared: Path, log: Log, kind: str) -> None:
    known = replaced(queries(prepared, "test").slice(0, 2), "user", [0, 0])
    past = [item for item in range(ITEMS) if weights(log, "test")[0, item]]
    known = replaced(known, "history", [past, [*past, 49]])
    known = replaced(known, "history_times", [[0] * len(past), [0] * (len(past) + 1)])
    known = replaced(known, "history_roles", [[0] * len(past), [0] * len(past) + [2]])  # an impression is no past
    unknown = replaced(known, "user", [-1, USERS + 5])
    retriever = built(prepared, "test", kind)
    one, other = retriever.retrieve(known, ITEMS), retriever.retrieve(unknown, ITEMS)
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_test_knows_the_validation_window_and_never_its_own(
    log: Log, prepared: Path, tmp_path: Path, kind: str
) -> None:
    asked = {split: queries(prepared, split) for split in SPLITS}
    found = {split: built(prepared, split, kind).retrieve(asked[split], ITEMS) for split in SPLITS}

    def moved(start: int, end: int, folder: str) -> Path:
        other = [(user, (item * 11 + 5) % TAKEN if start <= time < end else item, time) for user, item, time in log]
        return write_prepared(tmp_path / folder, other, items=ITEMS, history_length=12)

    later = moved(TEST_FROM, TEST_FROM + 100 * DAY, "later")
    for split in SPLITS:
        again = built(later, split, kind).retrieve(asked[split], ITEMS)
        np.testing.assert_array_equal(again.items, found[split].items)
        np.testing.assert_array_equal(again.scores, found[split].scores)
    window = moved(VALIDATION_FROM, TEST_FROM, "window")
    again = built(window, "validation", kind).retrieve(asked["validation"], ITEMS)
    np.testing.assert_array_equal(again.items, found["validation"].items)
    assert (built(window, "test", kind).retrieve(asked["test"], ITEMS).items != found["test"].items).any()


@pytest.mark.parametrize("kind", ["ials", "bpr"])
def test_the_seed_decides(prepared: Path, kind: str) -> None:
    asked = queries(prepared, "test")
    one, same, other = (built(prepared, "test", kind, seed=seed).retrieve(asked, ITEMS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.items, same.items)
    np.testing.assert_array_equal(one.scores, same.scores)
    assert (one.scores != other.scores).any()


def test_equal_scores_stand_in_the_order_of_recent_popularity(tmp_path: Path) -> None:
    log = [(0, 0, 1), (1, 0, 2), (1, 2, 2), (2, 0, 3), (2, 1, 3), (3, 0, 4), (3, 4, 4), (4, 4, 5)]
    log += [(0, 3, VALIDATION_FROM), (5, 0, VALIDATION_FROM), (5, 5, TEST_FROM)]
    prepared = write_prepared(tmp_path / "prepared", log, items=6)
    found = built(prepared, "test", "item_item", neighbours=10, shrink=0).retrieve(queries(prepared, "test"), 6)
    assert popular(log, "test")[:6] == [0, 3, 4, 1, 2, 5]
    assert found.items.tolist() == [[0, 3, 1, 2, 4, 5]]
    alike = 1 / math.sqrt(5)
    np.testing.assert_allclose(found.scores[0, :4], [1, alike, alike, alike], rtol=1e-6)


def test_nothing_taken_before_the_cut_off_leaves_popularity(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", [(0, 1, VALIDATION_FROM)], items=3)
    for kind in KINDS:
        retriever = settings(kind).build(str(prepared), split="validation")
        assert retriever.retrieve(queries(prepared, "validation"), 4).items.tolist() == [[0, 1, 2, -1]]


def test_ease_names_the_memory_that_it_would_need(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"50 items were taken, more than max_items: 49\. .*50 x 50 x 4 bytes.*k_core"):
        settings("ease", max_items=49).build(str(prepared), split="test")
    built(prepared, "test", "ease", max_items=50)  # the ten that nobody took do not count


def test_what_a_build_would_refuse_is_known_from_the_sizes(prepared: Path) -> None:
    sizes = data_sizes(open_artifact(prepared, "prepared_data"), split="test")
    assert sizes.items == 50 and sizes.timed
    assert settings("ease", max_items=50).refuses(sizes) is None
    why = settings("ease", max_items=49).refuses(sizes)
    with pytest.raises(DataError) as error:
        settings("ease", max_items=49).build(str(prepared), split="test")
    assert str(error.value) == f"ease: {why}"
    timeless = replace(sizes, timed=False)
    assert "needs logs with times" in str(settings("item_item", half_life="7d").refuses(timeless))
    assert settings("item_item").refuses(timeless) is None
    assert settings("popularity").refuses(sizes) is None


def test_a_fit_that_gives_nan_says_what_to_change(prepared: Path) -> None:
    with pytest.raises(TrainingError, match=r"bpr: .* learning_rate of 100: lower it"):
        settings("bpr", learning_rate=100).build(str(prepared), split="test")
    with pytest.raises(TrainingError, match=r"ials_7d: .* alpha of 1e\+30 .*: lower alpha or raise regularization"):
        settings("ials", alpha=1e30, half_life="7d").build(str(prepared), split="test")


def test_half_lives_need_times(prepared: Path, tmp_path: Path) -> None:
    ordered = rewritten(prepared, tmp_path / "ordered", lambda name, table: table, order="order")
    with pytest.raises(DataError, match="ease_7d: half_life needs logs with times"):
        settings("ease", half_life="7d").build(str(ordered), split="test")


@pytest.mark.parametrize("kind", ["item_item", "user_user", "ease", "ials"])
def test_a_short_half_life_leaves_finite_scores(prepared: Path, kind: str) -> None:
    given = {"shrink": 0} if kind == "item_item" else {}
    for counts in ("binary", "log", "linear"):
        retriever = built(prepared, "test", kind, half_life="1h", counts=counts, **given)
        assert np.isfinite(retriever.retrieve(queries(prepared, "test"), ITEMS).scores).all()


def test_names_tell_retrievers_apart() -> None:
    assert settings("item_item").name == "item_item"
    assert settings("item_item", similarity="bm25", half_life="28d").name == "item_item_bm25_28d"
    assert settings("ease", half_life="12h").name == "ease_0.5d"
    assert settings("bpr").name == "bpr"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("ials", {"regularization": 0, "factors": 1}),
        ("ials", {"regularization": 1e9}),
        ("ials", {"alpha": 1e9}),
        ("ials", {"alpha": 1e-9}),
        ("ials", {"factors": 500}),
        ("ials", {"seed": 2**32 - 1}),
        ("ials", {"half_life": "1s", "counts": "linear"}),
        ("bpr", {"seed": 2**32 - 1}),
        ("bpr", {"factors": 500}),
        ("bpr", {"learning_rate": 1e-10, "regularization": 0}),
        ("ease", {"regularization": 1e9}),
        ("ease", {"regularization": 10, "half_life": "1s"}),
        ("item_item", {"neighbours": MANY}),
        ("item_item", {"neighbours": 1, "shrink": 0}),
        ("item_item", {"shrink": 1e9}),
        ("item_item", {"similarity": "bm25", "k1": 1e9, "b": 1}),
        ("item_item", {"similarity": "bm25", "k1": 1e-300, "b": 0}),
        ("user_user", {"neighbours": MANY}),
        ("user_user", {"neighbours": 1, "half_life": "52000w", "counts": "log"}),
    ],
)
def test_settings_at_their_bounds_rank_all_the_same(prepared: Path, kind: str, given: dict[str, object]) -> None:
    found = built(prepared, "test", kind, **given).retrieve(queries(prepared, "test"), 10)
    assert (found.items >= 0).all() and np.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("ials", {"regularization": 0, "factors": 64}, "ials: at 64 factors and a regularization of 0 a vector's equ"),
        ("ials", {"regularization": 0, "factors": 500, "alpha": 1e9}, "raise regularization, or lower factors below"),
        ("bpr", {"learning_rate": 1000}, "bpr: the vectors became NaN at a learning_rate of 1000"),
        ("bpr", {"regularization": 1e9}, r"NaN at .*: lower it, or the regularization \(1e\+09\)"),
        ("ease", {"regularization": 1e-300}, "ease: the items' matrix is singular in float32; raise regularization"),
        ("ease", {"max_items": 1}, "ease: 50 items were taken, more than max_items: 1"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_named(
    prepared: Path, kind: str, given: dict[str, object], message: str
) -> None:
    with pytest.raises((DataError, TrainingError), match=message):
        built(prepared, "test", kind, **given).retrieve(queries(prepared, "test"), 10)


def test_a_past_whose_equations_have_no_solution_is_named(prepared: Path) -> None:
    """Fitted with more items than factors, asked with items that are all alike."""
    retriever = built(prepared, "test", "ials", factors=8, regularization=0)
    assert isinstance(retriever.scorer, FoldedIn)
    retriever.scorer.model.item_factors[:] = 1
    with pytest.raises(DataError, match="ials: at 8 factors and a regularization of 0"):
        retriever.retrieve(queries(prepared, "test"), 10)
