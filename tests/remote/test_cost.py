"""The estimate of a run's cost, reckoned by hand."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.remote.cost import Estimate, StepCost, estimate, estimate_table, gigabytes
from pipelines.remote.runs import RemoteRun
from pipelines.remote.submission import Submission, make_submission
from pipelines.runs import StepRecord
from two_tower.config import BeamSettings, Environment
from two_tower.steps import STEPS

ROOT = Path(__file__).parents[2]
PRICES = {
    "currency": "EUR", "run": 0.03, "cpu_hour": 0.05, "memory_gb_hour": 0.01,
    "accelerator_hour": {"NVIDIA_TESLA_T4": 0.40}, "worker_hour": 0.20,
}  # fmt: skip
DEFAULT_HOUR = 4 * 0.05 + 16 * 0.01
MINUTES = dict.fromkeys(STEPS, 10.0)


@pytest.fixture(scope="module")
def plain() -> Submission:
    environment = {
        "vertex": {
            "project": "shop-project", "region": "europe-west4", "bucket": "gs://shop-bucket",
            "service_account": "steps@shop-project.iam.gserviceaccount.com",
        },
        "kubeflow": {"root": "gs://kubeflow-bucket"},
    }  # fmt: skip
    return make_submission(
        ROOT / "configs" / "tiny.yaml", Environment.model_validate(environment), backend="vertex"
    )  # fmt: skip


def submission(plain: Submission, *, beam: dict[str, Any] | None = None, **changes: Any) -> Submission:
    """The run with other sections of the environment."""
    content = {**plain.environment.model_dump(mode="json", exclude_unset=True), "prices": PRICES, **changes}
    environment = Environment.model_validate(content)
    config = environment.overlaid(plain.config)
    if beam:
        config = config.model_copy(update={"beam": BeamSettings.model_validate(beam)})
    return replace(plain, environment=environment, config=config)


def finished(**seconds: float) -> RemoteRun:
    steps = [StepRecord(step, "ran", took) for step, took in seconds.items()]
    return RemoteRun("tiny-1", "tiny", "finished", "", steps=steps)


def step(found: Estimate | None, name: str) -> StepCost:
    assert found is not None
    return next(one for one in found.steps if one.step == name)


def printed(found: Estimate) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(estimate_table(found))
    return " ".join(console.file.getvalue().split())


def test_without_prices_there_is_no_estimate(plain):
    assert estimate(plain, history=None) is None


def test_ten_minutes_of_every_step_on_the_default_machine(plain):
    found = estimate(submission(plain, minutes=MINUTES), history=finished(report_failure=36.0))
    # Of promote and keep_refused one runs: eleven steps of ten minutes, and the exit handler's 0.6.
    assert found.total == pytest.approx((110.6 / 60) * DEFAULT_HOUR + 0.03)
    assert not found.unknown and found.currency == "EUR" and found.fee == 0.03
    assert [one.step for one in found.steps] == [
        *STEPS[:4], *STEPS[5:10], "promote or keep_refused", "write_report", "report_failure"  # without a refit
    ]  # fmt: skip
    assert step(found, "build_index").machine == "4 CPU, 16 GB"


def test_machines_and_accelerators(plain):
    resources = {
        "train_towers": {"cpu": "8", "memory": "32G", "accelerator": "NVIDIA_TESLA_T4", "accelerator_count": 2},
        "build_index": {"cpu": "500m"},
        "default": {"memory": "8Gi"},
    }
    found = estimate(submission(plain, resources=resources, minutes={**MINUTES, "train_towers": 90}), history=None)
    assert step(found, "train_towers").machine == "8 CPU, 32 GB, 2 NVIDIA_TESLA_T4"
    assert step(found, "train_towers").cost == pytest.approx(1.5 * (8 * 0.05 + 32 * 0.01 + 2 * 0.40))
    assert step(found, "build_index").cost == pytest.approx((0.5 * 0.05 + 16 * 0.01) / 6)
    assert step(found, "prepare_data").cost == pytest.approx((4 * 0.05 + 8 * 2**30 / 1e9 * 0.01) / 6)


def test_the_environments_minutes_come_before_an_earlier_run(plain):
    history = finished(train_towers=1800.0, build_index=600.0)
    history.steps.append(StepRecord("prepare_data", "cached", 3.0))
    found = estimate(submission(plain, minutes={"train_towers": 60}), history=history)
    assert step(found, "train_towers") == StepCost(
        "train_towers", "4 CPU, 16 GB", 60, "environment", pytest.approx(DEFAULT_HOUR)
    )
    assert step(found, "build_index").source == "earlier run"
    assert step(found, "build_index").cost == pytest.approx(DEFAULT_HOUR / 6)
    assert step(found, "prepare_data").minutes is None  # what the cache took says nothing


def test_what_is_not_known_is_said_and_not_taken_for_zero(plain):
    prices = {key: PRICES[key] for key in ("currency", "cpu_hour", "memory_gb_hour")}
    resources = {"train_towers": {"accelerator": "NVIDIA_L4"}}
    minutes = {"train_towers": 60, "promote": 60}
    beam = {"runner": "DataflowRunner", "options": {"num_workers": 2}}
    found = estimate(submission(plain, prices=prices, resources=resources, minutes=minutes, beam=beam), history=None)
    assert found.unknown == (
        "the price of a Dataflow worker (prices.worker_hour)",
        "the price of NVIDIA_L4 (prices.accelerator_hour)",
        "the time of resolve_inputs, prepare_data, check_prepared, export_candidate_tower, embed_candidates, "
        "build_index, export_query_tower, evaluate_recall, write_report, report_failure (minutes)",
        "the fee for a run (prices.run)",
    )
    assert found.fee is None and step(found, "train_towers").cost is None
    assert found.total == pytest.approx(DEFAULT_HOUR)
    text = printed(found)
    assert "at least 0.36" in text and "not in the total" in text and "the price of NVIDIA_L4" in text


def test_a_fee_of_zero_that_is_written_is_known(plain):
    found = estimate(
        submission(plain, prices={**PRICES, "run": 0}, minutes=MINUTES), history=finished(report_failure=1)
    )
    assert found.fee == 0 and not found.unknown


@pytest.mark.parametrize(
    ("options", "workers"), [({"num_workers": 2}, 2), ({"num_workers": 2, "max_num_workers": 9}, 9)]
)
def test_the_workers_of_dataflow(plain, options, workers):
    beam = {"runner": "DataflowRunner", "options": options}
    found = estimate(submission(plain, beam=beam, minutes=MINUTES), history=None)
    for name in ("prepare_data", "embed_candidates"):
        assert step(found, name).machine == f"4 CPU, 16 GB + {workers} workers"
        assert step(found, name).cost == pytest.approx((DEFAULT_HOUR + workers * 0.20) / 6)
    assert step(found, "train_towers").cost == pytest.approx(DEFAULT_HOUR / 6)


def test_a_number_of_workers_that_is_not_known(plain):
    found = estimate(submission(plain, beam={"runner": "DataflowRunner"}, minutes=MINUTES), history=None)
    assert step(found, "prepare_data").cost is None
    assert "how many workers Dataflow takes (beam.options.max_num_workers)" in found.unknown


def test_of_promotion_and_refusal_the_one_that_is_known_counts(plain):
    found = estimate(submission(plain), history=finished(keep_refused=3600.0))
    assert step(found, "promote or keep_refused").cost == pytest.approx(DEFAULT_HOUR)
    assert not any("promote" in one or "keep_refused" in one for one in found.unknown)
    found = estimate(submission(plain, minutes={"promote": 30, "keep_refused": 90}), history=None)
    assert step(found, "promote or keep_refused").cost == pytest.approx(1.5 * DEFAULT_HOUR)
    assert "promote or keep_refused" in estimate(submission(plain), history=None).unknown[0]


def test_on_kubeflow_a_step_that_asks_for_nothing_has_no_known_machine(plain):
    elsewhere = replace(submission(plain, minutes=MINUTES), root="gs://kubeflow-bucket")
    found = estimate(elsewhere, history=None)
    assert step(found, "train_towers").cost is None
    assert "the machine of train_towers (resources.train_towers)" in found.unknown


def test_the_table_says_that_nothing_comes_from_the_cache(plain):
    text = printed(estimate(submission(plain, minutes=MINUTES), history=finished(report_failure=36.0)))
    assert "nothing from the cache" in text and "EUR" in text
    assert "0.69" in text and "at least" not in text  # 110.6 / 60 x 0.36 + 0.03


@pytest.mark.parametrize(
    ("memory", "expected"), [("32G", 32), ("32Gi", 34.359738368), ("512M", 0.512), ("1T", 1000), ("2Ki", 2.048e-6)]
)
def test_amounts_of_memory_as_kfp_reckons_them(memory, expected):
    from kfp.compiler.compiler_utils import _memory_to_float

    assert gigabytes(memory) == pytest.approx(expected) == pytest.approx(_memory_to_float(memory))
