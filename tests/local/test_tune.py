"""The search: goes on where it stopped, prunes, outlives failed trials, and leaves a configuration that has the best.

The trials here are made up: what a trial's process would tell is computed from its settings.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from pipelines.local import tune
from pipelines.local.trial import EPOCH
from pipelines.local.tune import Search
from two_tower.artifacts import write_artifact
from two_tower.config import canonical_json, load_config
from two_tower.errors import DataError, TrainingError
from two_tower.model import choose

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
SPACE = {
    "training.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "model.candidate.hidden": [[], [32], [64]],
}


class Trials:
    """Stands for the processes of the trials."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.epochs_told: list[int] = []
        self.recalls: Any = lambda settings: (
            [10 * settings["training"]["learning_rate"]] * settings["training"]["epochs"]
        )

    def __call__(self, command: list[str], *, environment: Any, log: Path, line: Any) -> int:
        settings = json.loads(Path(command[-1]).read_text())
        self.asked.append(settings)
        self.epochs_told.append(0)
        log.write_text("")
        recalls = self.recalls(settings)
        if isinstance(recalls, str):
            line(f"12:00:00 ERROR trial failed: {recalls}")
            return 1
        if isinstance(recalls, int):
            return recalls
        for epoch, recall in enumerate(recalls, start=1):
            self.epochs_told[-1] += 1
            line("12:00:00 INFO train: some line")
            line(f"{EPOCH}{json.dumps([epoch, recall])}")
        return 0

    @property
    def rates(self) -> list[float]:
        return [settings["training"]["learning_rate"] for settings in self.asked]


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    fake = Trials()
    monkeypatch.setattr(tune, "run_logged", fake)
    return fake


class Bench:
    """Searches of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = io.StringIO()
        self.prepare("one")

    def prepare(self, content: str) -> None:
        self.prepared = self.folder / content
        with write_artifact(
            self.prepared, "prepared_data", config={"interactions": {"columns": {"time": "time"}}}
        ) as out:
            out.path("rows").write_text(content)
            sequence = {"user": 0, "items": [0, 1, 2], "targets": [True] * 3}
            schema = pa.schema({"user": pa.int32(), "items": pa.list_(pa.int32()), "targets": pa.list_(pa.bool_())})
            out.write_table("train/part-00000.parquet", pa.Table.from_pylist([sequence], schema=schema))

    def open(self, *overrides: str, space: dict[str, Any] = SPACE) -> Search:
        self.overrides = [f"tune={canonical_json(space)}", *overrides]
        outputs = {"prepared": str(self.prepared), "warm_start": ""}
        (self.folder / "search").mkdir(exist_ok=True)
        return Search.open(
            load_config(TINY, self.overrides),
            self.folder / "search",
            prepared=SimpleNamespace(step=lambda name: SimpleNamespace(outputs=outputs)),  # type: ignore[arg-type]
            console=Console(file=self.text, width=160),
        )

    def search(self, count: int, *overrides: str, **options: Any) -> Search:
        search = self.open(*overrides, **options)
        search.run(trials=count, seconds=None)
        return search

    @property
    def said(self) -> str:
        return self.text.getvalue()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_first_trial_has_the_configurations_own_values_and_none_refits(bench: Bench, trials: Trials) -> None:
    bench.search(3, "training.refit=true")
    assert trials.rates[0] == 0.005 and len(set(trials.rates)) == 3
    assert trials.asked[0]["model"]["candidate"]["hidden"] == [32]
    assert not any(settings["training"]["refit"] for settings in trials.asked)
    assert all(0.001 <= rate <= 0.1 for rate in trials.rates)
    assert {len(settings["model"]["candidate"]["hidden"]) for settings in trials.asked} <= {0, 1}


def test_what_is_auto_stands_for_what_it_would_in_a_run(bench: Bench, trials: Trials) -> None:
    space = {"training.learning_rate": {"low": 0.0005, "high": 0.1, "log": True}, "model.dim": [32, 128]}
    search = bench.search(2, "model.history=auto", "training.learning_rate=auto", "model.dim=auto", space=space)
    recipe = choose(search.config.model, search.config.training, search.facts)
    assert recipe.recipe == "sequences"
    assert trials.rates[0] == recipe.training.learning_rate == 0.002
    assert [settings["model"]["history"]["type"] for settings in trials.asked] == ["transformer", "transformer"]
    assert trials.asked[0]["model"]["dim"] == recipe.model.dim == 128


def test_a_search_goes_on_where_it_stopped_as_if_it_had_not(bench: Bench, trials: Trials, tmp_path: Path) -> None:
    bench.search(2)
    assert len(trials.asked) == 2
    bench.search(6)
    assert len(trials.asked) == 6 and "2 trials so far" in bench.said
    bench.search(6)
    bench.search(3)
    assert len(trials.asked) == 6, "enough have finished"
    in_parts = list(trials.rates)
    whole = Bench(tmp_path / "whole")
    whole.search(6)
    assert trials.rates[6:] == in_parts


@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupted_trial_does_not_count_and_is_tried_again(bench: Bench, trials: Trials, number: int) -> None:
    def interrupted(settings: dict[str, Any]) -> list[float]:
        if len(trials.asked) == number:
            raise KeyboardInterrupt
        return [0.1, 0.2]

    trials.recalls = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.search(4)
    search = bench.search(4)
    assert len(search.finished()) == 4 and len(trials.asked) == 5
    assert trials.rates[number - 1] == trials.rates[number]


def test_a_killed_search_goes_on_too(bench: Bench, trials: Trials) -> None:
    """A trial that runs for ever, as the study sees it, and half a line at the journal's end."""
    search = bench.search(2)
    search.study.ask(search._distributions())
    (search.folder / "trials" / "0002").mkdir()
    with open(bench.folder / "search" / "journal.log", "a") as file:
        file.write('{"op_code": 6, "wor')
    search = bench.search(3)
    assert len(search.finished()) == 3 and len(trials.asked) == 3
    assert not (search.folder / "trials" / "0002").exists()


def test_a_trial_below_the_median_is_stopped_early(bench: Bench, trials: Trials) -> None:
    trials.recalls = lambda settings: [0.01 if len(trials.asked) in (1, 6) else 0.5] * 5
    search = bench.search(7, "training.epochs=5")
    assert trials.epochs_told == [5, 5, 5, 5, 5, tune.FIRST_JUDGED, 5], "none before there is a median"
    assert "pruned after 2 epochs" in bench.said
    search.finish(TINY, bench.overrides)
    assert "6 complete, 1 pruned, 0 failed" in bench.said


@pytest.mark.parametrize(("course", "reason"), [("the loss became nan", "the loss became nan"), (-9, "code -9")])
def test_a_failed_trial_counts_and_the_search_goes_on(bench: Bench, trials: Trials, course: Any, reason: str) -> None:
    trials.recalls = lambda settings: course if len(trials.asked) == 2 else [0.2]
    search = bench.search(3)
    assert len(trials.asked) == 3 and len(search.finished()) == 3
    assert reason in bench.said and search.finished()[1].user_attrs["reason"].endswith(reason)
    search.finish(TINY, bench.overrides)
    assert "2 complete, 0 pruned, 1 failed" in bench.said


def test_values_that_do_not_fit_together_are_a_failed_trial(bench: Bench, trials: Trials) -> None:
    space = {"model.dim": {"low": 16, "high": 17}, "model.history": [None, {"type": "transformer", "heads": 16}]}
    search = bench.search(12, space=space)
    assert "heads do not divide dim 17" in bench.said
    assert len(trials.asked) < len(search.finished()) == 12
    assert 17 in {settings["model"]["dim"] for settings in trials.asked}, "which fits where there is no history"


def test_without_any_complete_trial_there_is_no_best(bench: Bench, trials: Trials) -> None:
    trials.recalls = lambda settings: "the loss became nan"
    with pytest.raises(TrainingError, match="no trial came to its end; the last one: the loss became nan"):
        bench.search(2).finish(TINY, bench.overrides)


def test_without_validation_recall_nothing_is_searched(bench: Bench, trials: Trials) -> None:
    trials.recalls = lambda settings: [None]
    with pytest.raises(DataError, match="no validation query"):
        bench.search(2)
    assert len(bench.open().finished()) == 0


def test_what_makes_trials_incomparable_starts_a_new_search(bench: Bench, trials: Trials) -> None:
    names = [bench.search(2).study.study_name]
    names.append(bench.search(2, "training.learning_rate=0.02").study.study_name)
    assert names[0] == names[1], "the file's own value of what is searched does not matter"
    assert "a new search" not in bench.said
    names.append(bench.search(2, "training.batch_size=128").study.study_name)
    assert "a new search: other settings changed since the last one" in bench.said
    names.append(bench.search(2, space={"model.dim": [8, 16]}).study.study_name)
    assert "a new search: the section tune, other settings changed" in bench.said
    bench.prepare("two")
    names.append(bench.search(2, space={"model.dim": [8, 16]}).study.study_name)
    assert "a new search: the prepared data changed" in bench.said
    assert len(set(names)) == 4 and len(trials.asked) == 8


def test_a_choice_that_is_a_section_is_shown_by_its_type_where_that_tells_it_apart(
    bench: Bench, trials: Trials
) -> None:
    losses = [{"type": "full_softmax"}, {"type": "in_batch"}]
    bench.search(1, space={"training.loss": losses})
    assert "training.loss full_softmax\n" in bench.said
    bench.search(1, space={"training.loss": [*losses, {"type": "in_batch", "logq": "none"}]})
    assert 'training.loss {"precision":"float32","type":"full_softmax"}' in bench.said


def test_no_trial_starts_when_the_time_is_over(bench: Bench, trials: Trials) -> None:
    search = bench.open()
    search.run(trials=5, seconds=0)
    assert not trials.asked and "0s are over after 0 of 5 trials" in bench.said


def test_the_best_trial_becomes_a_configuration_of_its_own(bench: Bench, trials: Trials) -> None:
    before = TINY.read_bytes()
    search = bench.search(6, "training.refit=true", "training.epochs=2")
    path = search.finish(TINY, bench.overrides)
    best = load_config(path)
    assert best.training.learning_rate == max(trials.rates)
    assert best.training.refit and best.training.epochs == 2 and not best.tune
    winner = trials.asked[trials.rates.index(max(trials.rates))]
    run = choose(best.model, best.training, search.facts)
    assert run.model.model_dump(mode="json") == winner["model"]
    assert {**run.training.model_dump(mode="json"), "refit": False} == winner["training"]
    assert TINY.read_bytes() == before
    assert (path.parent / "search.png").read_bytes().startswith(b"\x89PNG")
    assert "the best trials" in bench.said and f"{max(trials.rates):.4g}" in bench.said
