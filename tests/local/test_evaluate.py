"""Measuring a stored version on another window: what is left in the run, what is shown."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_artefacts import DAY, item_ids, random_log, write_prepared, write_version
from rich.console import Console
from strict_bucket import BUCKET, StrictBucket
from whole_version import write_whole_version

from pipelines.cli.shared import stored_version
from pipelines.local.evaluate import evaluate_version, require_free
from pipelines.runs import Run, list_runs
from pipelines.views.evaluation_tables import (
    differences_table,
    named,
    ordered_slices,
    slices_table,
    verdict_of,
    window_in_words,
)
from two_tower.artifacts import open_artifact, write_artifact
from two_tower.config import Config, load_config, with_values
from two_tower.errors import ArtifactError, ConfigError, RegistryError
from two_tower.evaluation import evaluate
from two_tower.metrics_file import Difference, Evaluation, SliceFigures, Window
from two_tower.registry import Registry, Version

ITEMS = 40
TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def shown(part: object) -> str:
    console = Console(file=StringIO(), width=160)
    console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data and two versions, of which one knows fewer items."""
    folder = tmp_path_factory.mktemp("runs")
    write_prepared(folder / "prepared", random_log(users=60, items=ITEMS, events=2000), items=ITEMS)
    for seed, known in enumerate((ITEMS, ITEMS // 2)):
        vectors = np.random.default_rng(seed).normal(size=(ITEMS, 4)).astype(np.float32)
        write_version(folder / "versions" / f"v{seed}", vectors[:known], item_ids(ITEMS)[:known])
    return folder


def version(workdir: Path, name: str) -> Version:
    return Version(name, workdir / "versions" / name, "former")


def prepared_run(workdir: Path) -> Run:
    run = Run.start(workdir, name="tiny", config_file="tiny.yaml", config=config().model_dump(mode="json"))
    run.steps, run.state = [run.step("resolve_inputs"), run.step("prepare_data")], "finished"
    run.step("prepare_data").outputs["prepared"] = str(workdir / "prepared")
    return run


def config() -> Config:
    gate = [{"type": "enough_queries", "at_least": 10}]
    return with_values(load_config(TINY), {"evaluation.gate": gate, "evaluation.baselines": [{"type": "popularity"}]})


def test_two_versions_of_other_vocabularies_are_measured_on_the_same_queries(workdir: Path, tmp_path: Path) -> None:
    run = prepared_run(workdir)
    ours, theirs = version(workdir, "v0"), version(workdir, "v1")
    metrics = evaluate_version(run, config(), version=ours, against=theirs, out=tmp_path)
    assert (metrics.version, metrics.champion, metrics.champion_error) == ("v0", "v1", None)
    assert "two_tower_exact" not in metrics.systems
    columns = open_artifact(tmp_path / "evaluation", "evaluation").table("per_query.parquet").column_names
    assert {"two_tower/recall@10", "champion/recall@10"} <= set(columns)
    assert not (tmp_path / "report.html").exists(), "the version has no trained towers"

    (record,) = [found for found in list_runs(workdir) if found.run_id == run.run_id]
    assert record.metrics == metrics
    assert record.step("evaluate_recall").state == "ran"
    assert record.version is None, "this run made no version"
    assert "v1" in shown(differences_table(metrics, against=theirs))


def test_a_version_of_an_environments_bucket_is_found_fetched_and_measured(workdir: Path, tmp_path: Path) -> None:
    (tmp_path / "away.yaml").write_text(f"kubeflow: {{root: 'gs://{BUCKET}/pipelines'}}\n")
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32)
    with StrictBucket():
        prepared, made_with = workdir / "prepared", {"name": "tiny"}
        parts = write_whole_version(tmp_path / "version", prepared, vectors, item_ids(ITEMS), config=made_with)
        stored = Registry(f"gs://{BUCKET}/pipelines/registry", "tiny").promote(parts)
        ours = stored_version("champion", tmp_path, tmp_path / "away.yaml", name="tiny")[1]
        assert stored_version(stored[:8], tmp_path, tmp_path / "away.yaml", name="tiny")[1] == ours
        assert str(ours.place).startswith("gs://")
        out, settings = tmp_path / "evaluation", config().evaluation
        evaluate(prepared, ours.query_tower, ours.index, None, out, evaluation=settings, version=ours.id)
        metrics = open_artifact(out, "evaluation").json("metrics.json")
        assert metrics["version"] == stored and metrics["systems"]["two_tower"]["metrics"]["recall@10"]["value"] > 0
        with pytest.raises(RegistryError, match=f"gs://{BUCKET}/pipelines/registry/tiny: no version 'other'"):
            stored_version("other", tmp_path, tmp_path / "away.yaml", name="tiny")
        with pytest.raises(RegistryError, match="there is no champion yet; `two-tower submit` makes one"):
            stored_version("champion", tmp_path, tmp_path / "away.yaml", name="museum")


def test_a_version_that_cannot_be_measured_leaves_a_failed_run(workdir: Path, tmp_path: Path) -> None:
    run = prepared_run(workdir)
    gone = Version("gone", workdir / "versions" / "gone", "former")
    with pytest.raises(ArtifactError, match="gone/query_tower"):
        evaluate_version(run, config(), version=gone, against=None, out=tmp_path)
    record = Run.load(run.folder)
    assert (record.state, record.step("evaluate_recall").state) == ("failed", "failed")


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    require_free(tmp_path)
    with write_artifact(tmp_path / "evaluation", "evaluation"):
        pass
    require_free(tmp_path)
    (tmp_path / "mine" / "evaluation").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"mine/evaluation would be replaced, and is no evaluation"):
        require_free(tmp_path / "mine")


def paired(difference: float, low: float, high: float) -> dict[str, float]:
    return {"difference": difference, "low": low, "high": high, "probability_better": 0.875}


def measured(**values: float) -> dict[str, Any]:
    return {
        system: {"kind": "challenger", "metrics": {"recall@100": {"value": value, "low": 0.1, "high": 0.9}}}
        for system, value in values.items()
    }


EVALUATION = Evaluation.model_validate({
    "version": "1111", "champion": "2222", "ks": [10, 100, 1000], "queries": 300, "candidates": 40, "confidence": 0.95,
    "systems": measured(two_tower=0.5, champion=0.4),
    "comparisons": {"champion": {"recall@100": paired(0.1, 0.05, 0.15)}},
    "slices": {
        "head": {"queries": 200, "group": "items", "label": "popular items", "too_small": False,
                 "systems": measured(two_tower=0.6, champion=0.7),
                 "comparisons": {"champion": {"recall@100": paired(-0.1, -0.2, -0.01)}}},
        "tail": {"queries": 7, "group": "items", "label": "rare items", "too_small": True,
                 "systems": measured(two_tower=0.2, champion=0.1), "comparisons": {}},
    },
})  # fmt: skip
AGAINST = Version("2222", Path("nowhere"), "champion")


def test_the_differences_are_shown_with_interval_and_probability() -> None:
    text = shown(differences_table(EVALUATION, against=AGAINST))
    assert "recall@100 │ 0.5000 │ 0.4000 │ +0.1000 [+0.0500, +0.1500] │" in text
    assert "0.875" in text and "1111" in text and "2222" in text


def test_a_slice_has_a_verdict_unless_it_is_too_small() -> None:
    lines = shown(slices_table(EVALUATION, against=AGAINST)).splitlines()
    (head,) = [line for line in lines if "popular items" in line]
    (tail,) = [line for line in lines if "rare items" in line]
    assert "items: popular items" in head and "worse" in head and "200" in head
    assert "too few queries to judge" in tail and "0.2000" in tail and "0.875" not in tail
    alone = shown(slices_table(EVALUATION, against=None))
    assert "2222" not in alone and "0.6000" in alone and "too few queries to judge" in alone


def test_slices_stand_in_a_readable_order_without_the_empty_ones() -> None:
    groups = {"tail": "items", "history 21+": "history", "history 6-20": "history", "new_users": "users",
              "user.country=FR": "user.country", "repeated": "items"}  # fmt: skip
    slices = {name: SliceFigures(queries=0 if name == "repeated" else 9, group=group) for name, group in groups.items()}
    names = [name for name, _ in ordered_slices(slices)]
    assert names == ["new_users", "history 6-20", "history 21+", "tail", "user.country=FR"]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (-0.1, 0.1, "no clear difference")]
)
def test_the_verdict_of_a_difference_goes_by_its_interval(low: float, high: float, verdict: str) -> None:
    assert verdict_of(Difference(**paired(0.0, low, high))) == verdict


def test_the_other_version_has_its_own_name_in_the_table() -> None:
    assert list(named(EVALUATION, against=AGAINST).systems) == ["two_tower", "2222"]
    assert list(named(EVALUATION, against=None).systems) == ["two_tower", "champion"]


def test_the_window_is_said_in_words() -> None:
    seconds = 100 * DAY / 1e6
    assert window_in_words(Window(start=seconds, seen_until=seconds - 60, overlaps=False)) == (
        "queries from 1970-04-11 00:00 UTC on; the version was trained on events until 1970-04-10 23:59 UTC"
    )
    assert "until an unknown time" in window_in_words(Window(start=seconds, seen_until=None, overlaps=False))
    assert "not split by time" in window_in_words(None)


def test_the_main_k_is_the_one_nearest_to_100() -> None:
    assert Evaluation(ks=[10, 100, 1000]).main_k == 100
    assert Evaluation(ks=[5, 50]).main_k == 50
