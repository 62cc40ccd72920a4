"""What a run is likely to cost, from the prices in the environment file and the times of an earlier run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.table import Table

from pipelines.remote.runs import RemoteRun
from pipelines.remote.submission import Submission
from two_tower.config import PricesSettings, ResourcesSettings
from two_tower.steps import EXIT_HANDLER, TABLE

NO_PRICES = (
    "no estimate of the cost: the environment file has no section `prices` (currency, run, cpu_hour, memory_gb_hour, "
    "accelerator_hour, worker_hour)"
)
"""What to say where there is no estimate."""
DEFAULT_CPU, DEFAULT_MEMORY = 4.0, 16.0
"""Vertex AI's machine for a step that asks for none, e2-standard-4: virtual CPUs and gigabytes."""
EITHER = tuple(step.name for step in TABLE.values() if step.when in ("promote", "refuse"))
"""Of these steps a run has one."""


@dataclass(frozen=True)
class StepCost:
    """One step's machine, its time and what both cost."""

    step: str
    machine: str
    minutes: float | None
    """None where nothing says how long it takes."""
    source: Literal["environment", "earlier run", ""]
    """What says so."""
    cost: float | None
    """None where the time or a price is not known."""


@dataclass(frozen=True)
class Estimate:
    """The cost of one run of all steps, none of them answered from the cache."""

    currency: str
    steps: tuple[StepCost, ...]
    fee: float | None
    """For the run as such."""
    unknown: tuple[str, ...]
    """What is not in the total for want of a time or a price."""

    @property
    def total(self) -> float:
        """What is known of the cost."""
        return (self.fee or 0.0) + sum(step.cost or 0.0 for step in self.steps)


def estimate(submission: Submission, *, history: RemoteRun | None) -> Estimate | None:
    """The likely cost of a run; None where the environment has no prices (`NO_PRICES`).

    A step costs its minutes times the price of its machine; one that runs on Dataflow costs its workers besides, all
    of which are taken to be there for as long as the step.

    Args:
        submission: The run.
        history: The latest run of the same configuration that went well; its steps' times stand in for those that
            `minutes` in the environment does not give.
    """
    prices = submission.environment.prices
    if prices is None:
        return None
    unknown: list[str] = []
    names = submission.config.steps
    steps = [_of_step(step, submission, prices, history, unknown) for step in names if step not in EITHER]
    steps.insert(names.index(EITHER[0]), _of_either(submission, prices, history, unknown))
    steps.append(_of_step(EXIT_HANDLER, submission, prices, history, unknown))
    if untimed := [step.step for step in steps if step.minutes is None]:
        unknown.append(f"the time of {', '.join(untimed)} (minutes)")
    fee = prices.run if "run" in prices.model_fields_set else None
    if fee is None:
        unknown.append("the fee for a run (prices.run)")
    return Estimate(prices.currency, tuple(steps), fee, tuple(dict.fromkeys(unknown)))


def estimate_table(estimate: Estimate) -> Table:
    """One row a step, the fee and the total; below them what is not known."""
    table = Table(
        title=f"estimated cost in {estimate.currency}, nothing from the cache", title_justify="left",
        title_style="bold", caption_justify="left",
    )  # fmt: skip
    table.add_column("step", overflow="fold")
    table.add_column("machine", overflow="fold")
    table.add_column("minutes", justify="right", no_wrap=True)
    table.add_column("known from", overflow="fold")
    table.add_column("cost", justify="right", no_wrap=True)
    for step in estimate.steps:
        minutes = "unknown" if step.minutes is None else f"{step.minutes:.1f}"
        table.add_row(step.step, step.machine, minutes, step.source, _amount(step.cost))
    table.add_row("fee for the run", "", "", "", _amount(estimate.fee), end_section=True)
    least = "at least " if estimate.unknown else ""
    table.add_row("total", "", "", "", f"{least}{estimate.total:.2f}", style="bold")
    if estimate.unknown:
        table.caption = f"not known, and so not in the total: {'; '.join(estimate.unknown)}"
    return table


def gigabytes(memory: str) -> float:
    """An amount of memory such as 32G or 32Gi in gigabytes (10^9 bytes), as KFP reckons it."""
    number, unit = memory.rstrip("EPTGMKi"), memory.lstrip("0123456789.")
    power = "KMGTPE".index(unit[0]) + 1 if unit else 0
    return float(number) * (1024.0 if unit.endswith("i") else 1000.0) ** power / 1e9


def _of_either(
    submission: Submission, prices: PricesSettings, history: RemoteRun | None, unknown: list[str]
) -> StepCost:
    """The dearer of the two steps of which a run has one; not known only where neither is."""
    lacking: list[list[str]] = [[], []]
    found = [_of_step(step, submission, prices, history, lacks) for step, lacks in zip(EITHER, lacking, strict=True)]
    known = [one for one in found if one.cost is not None]
    if not known:
        unknown += lacking[0]
    chosen = max(known, key=lambda one: one.cost or 0.0) if known else found[0]
    name = " or ".join(EITHER)
    return StepCost(name, chosen.machine, chosen.minutes, chosen.source, chosen.cost)


def _of_step(
    step: str, submission: Submission, prices: PricesSettings, history: RemoteRun | None, unknown: list[str]
) -> StepCost:
    """A step's cost; adds to `unknown` what of its price is not known."""
    machine, hourly = _machine(step, submission, prices, unknown)
    minutes, source = _minutes(step, submission, history)
    if "beam" in TABLE[step].sections and submission.config.beam.runner == "DataflowRunner":
        workers, workers_hourly = _workers(submission, prices, unknown)
        machine += workers
        hourly = None if hourly is None or workers_hourly is None else hourly + workers_hourly
    cost = None if minutes is None or hourly is None else minutes / 60 * hourly
    return StepCost(step, machine, minutes, source, cost)


def _minutes(
    step: str, submission: Submission, history: RemoteRun | None
) -> tuple[float | None, Literal["environment", "earlier run", ""]]:
    known: dict[str, float] = submission.environment.minutes
    if step in known:
        return known[step], "environment"
    records = history.steps if history else []
    ran = next((record for record in records if record.name == step and record.state == "ran"), None)
    return (ran.seconds / 60, "earlier run") if ran else (None, "")


def _machine(step: str, submission: Submission, prices: PricesSettings, unknown: list[str]) -> tuple[str, float | None]:
    """A step's machine in words, and the price of its hour."""
    asked = submission.config.resources.get(step) or ResourcesSettings()
    if not _on_vertex(submission) and (asked.cpu is None or asked.memory is None):
        unknown.append(f"the machine of {step} (resources.{step})")
        return "whatever is free", None
    cpu = DEFAULT_CPU if asked.cpu is None else _cpus(asked.cpu)
    memory = DEFAULT_MEMORY if asked.memory is None else gigabytes(asked.memory)
    words, hourly = f"{cpu:g} CPU, {memory:g} GB", cpu * prices.cpu_hour + memory * prices.memory_gb_hour
    if asked.accelerator is None:
        return words, hourly
    words += f", {asked.accelerator_count} {asked.accelerator}"
    price = prices.accelerator_hour.get(asked.accelerator)
    if price is None:
        unknown.append(f"the price of {asked.accelerator} (prices.accelerator_hour)")
        return words, None
    return words, hourly + asked.accelerator_count * price


def _workers(submission: Submission, prices: PricesSettings, unknown: list[str]) -> tuple[str, float | None]:
    """Dataflow's workers in words, and the price of their hour."""
    options = submission.config.beam.options
    count = options.get("max_num_workers") or options.get("num_workers")
    if count is None:
        unknown.append("how many workers Dataflow takes (beam.options.max_num_workers)")
        return " + workers", None
    words = f" + {count} worker{'s' * (count != 1)}"
    if "worker_hour" not in prices.model_fields_set:
        unknown.append("the price of a Dataflow worker (prices.worker_hour)")
        return words, None
    return words, int(count) * prices.worker_hour


def _on_vertex(submission: Submission) -> bool:
    vertex = submission.environment.vertex
    return vertex is not None and submission.root.startswith(f"{vertex.bucket}/")


def _cpus(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _amount(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:.2f}"
