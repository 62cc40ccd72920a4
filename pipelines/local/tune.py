"""The search for settings: trials that differ in what the section `tune` names, compared by validation recall.

A trial trains in a process of its own: TensorFlow gives its memory back to nobody while it lives, and a trial that
crashes or runs out of memory is one failed trial.  The process knows nothing of the search; it tells of its epochs,
and is killed when it is not worth going on with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from components.child_process import RUNNER_PID
from pipelines.local.runner import run_logged
from pipelines.local.trial import EPOCH
from pipelines.runs import Run
from pipelines.views.search_picture import draw_search, labels_of
from two_tower.artifacts import content_hash, open_artifact, replace_file, write_json
from two_tower.config import Between, Config, canonical_json, merged_yaml, value_at, with_values
from two_tower.errors import ConfigError, DataError, TrainingError
from two_tower.model import Choice, Facts, choose
from two_tower.progress import human_seconds

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

BEFORE_PRUNING = 4
"""Finished trials before one is held against their median."""
FIRST_JUDGED = 2
"""The first epoch after which a trial may be stopped: a low learning rate starts slowly."""
SHOWN = 10
"""Rows of the table of the best trials."""


class _Pruned(Exception):
    """The trial is worse than the median of the others."""


@dataclass
class _Course:
    """What a trial's process has told so far."""

    recalls: list[float] = field(default_factory=list)
    complaint: str = ""

    @property
    def best(self) -> tuple[float, int]:
        """The best recall and its epoch."""
        recall = max(self.recalls)
        return recall, self.recalls.index(recall) + 1


@dataclass
class Search:
    """A configuration's search on one prepared data set: an Optuna study and the folder of its files."""

    config: Config
    """With `refit` off: the trials are compared on the validation events, which a refit would train on."""
    space: Mapping[str, Any]
    """What is searched: the section `tune`."""
    folder: Path
    prepared: str
    facts: Facts
    """What `auto` stands for is chosen by, in every trial as in a run."""
    champion: str
    """The trained towers that every trial starts from, with `training.warm_start`; or empty."""
    study: Study
    console: Console

    @classmethod
    def open(cls, config: Config, folder: Path, *, prepared: Run, console: Console) -> Search:
        """The search below `folder` that fits the configuration and the data, a new one if there is none.

        Only one process may have `folder` open.  Trials that were cut off are marked so; they do not count.
        """
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        space, config = config.tune, with_values(config, {"training.refit": False})
        data = prepared.step("prepare_data").outputs["prepared"]
        champion = prepared.step("resolve_inputs").outputs["warm_start"]
        origins = _origins(config, space, data, champion)
        name = _hash(origins)
        journal = folder / "journal.log"
        _drop_half_a_line(journal)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        earlier = [found.study_name for found in storage.get_all_studies()]
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        facts = Facts.of(open_artifact(data, "prepared_data"))
        search = cls(config, space, folder / name, data, facts, champion, study, console)
        if name not in earlier:
            for what, origin in origins.items():
                study.set_user_attr(what, origin)
            if earlier:
                last = optuna.load_study(storage=storage, study_name=earlier[-1])
                changed = [what for what, origin in origins.items() if last.user_attrs.get(what) != origin]
                search._say(f"a new search: {', '.join(changed)} changed since the last one, {earlier[-1]}")
        for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            search._give_up(trial)
        (search.folder / "trials").mkdir(parents=True, exist_ok=True)
        for unfinished in (search.folder / "trials").glob("*/"):
            shutil.rmtree(unfinished)
        search._say(f"search {name}: {len(search.finished())} trials so far; files in {search.folder}")
        return search

    def finished(self) -> list[FrozenTrial]:
        """The trials that ran to an end of their own, be it a failure."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state.is_finished()]  # a trial that was cut off has no reason
        return [trial for trial in ended if trial.state != TrialState.FAIL or "reason" in trial.user_attrs]

    def run(self, *, trials: int, seconds: float | None) -> None:
        """Runs trials until `trials` have finished, those of earlier calls included, or `seconds` are over."""
        import optuna

        start = time.monotonic()
        pruner = optuna.pruners.MedianPruner(n_startup_trials=BEFORE_PRUNING, n_warmup_steps=FIRST_JUDGED)
        self.study.pruner = pruner
        while (done := len(self.finished())) < trials:
            if seconds is not None and time.monotonic() - start >= seconds:
                self._say(f"{human_seconds(seconds)} are over after {done} of {trials} trials")
                break
            # Seeded by what is finished, so that a search that was cut off goes on as if it had not been.
            self.study.sampler = optuna.samplers.TPESampler(seed=self.config.training.seed + done)
            if done == 0:
                self.study.enqueue_trial(self._own_values())
            trial = self.study.ask(self._distributions())
            try:
                self._try(trial, f"trial {trial.number} ({done + 1} of {trials})")
            except BaseException:
                self._give_up(trial)
                raise

    def finish(self, config_file: Path, overrides: list[str]) -> Path:
        """Prints the best trials and writes `search.png` and `best.yaml`, whose path is returned.

        Raises:
            TrainingError: No trial has come to its end.
        """
        from optuna.trial import TrialState

        finished = self.finished()
        complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
        if not complete:
            reason = finished[-1].user_attrs["reason"] if finished else "none was started"
            raise TrainingError(f"no trial came to its end; the last one: {reason}; logs in {self.folder / 'trials'}")
        ranked = sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))
        self.console.print(self._table(ranked[:SHOWN]))
        counts = [
            f"{sum(trial.state == state for trial in finished)} {word}"
            for state, word in (
                (TrialState.COMPLETE, "complete"),
                (TrialState.PRUNED, "pruned"),
                (TrialState.FAIL, "failed"),
            )
        ]
        self._say(", ".join(counts))
        best = with_values(self.config, self._values(ranked[0].params))
        path = self.folder / "best.yaml"
        text = merged_yaml(config_file, overrides, config=best, keys=self.space)
        origin = f"# Trial {ranked[0].number} of {self.folder}: validation {self._metric} {ranked[0].value:.4f}\n"
        replace_file(path, (origin + text).encode())
        picture = self.folder / "search.png"
        draw_search(finished, self.space, metric=self._metric, path=picture)
        self._say(f"picture: {picture}")
        return path

    def _try(self, trial: Trial, title: str) -> None:
        """Trains with a trial's settings and tells the study what came of it."""
        from optuna.trial import TrialState

        self._say(f"{title}: {', '.join(f'{key} {text}' for key, text in self._shown(trial.params).items())}")
        start, course = time.monotonic(), _Course()
        state, reason = TrialState.FAIL, ""
        try:
            settings = with_values(self.config, self._values(trial.params))
            code = self._train(trial, choose(settings.model, settings.training, self.facts), course)
            if code == 0:
                state = TrialState.COMPLETE
            else:
                reason = course.complaint or f"its process ended with code {code}"
        except ValidationError as error:  # each value fits alone, but not all of them together
            reason = error.errors(include_url=False)[0]["msg"]
        except ConfigError as error:
            reason = str(error)
        except _Pruned:
            state = TrialState.PRUNED
        took = time.monotonic() - start
        trial.set_user_attr("seconds", round(took, 1))
        if state == TrialState.FAIL:
            trial.set_user_attr("reason", reason)
            self.study.tell(trial, state=state)
            self._say(f"{title}: failed after {human_seconds(took)}: {reason}; {self._log(trial)}")
            return
        recall, epoch = course.best
        trial.set_user_attr("best_epoch", epoch)
        trial.set_user_attr("best_recall", recall)
        if state == TrialState.PRUNED:
            self.study.tell(trial, state=state)
        else:
            self.study.tell(trial, recall)
        word = "pruned" if state == TrialState.PRUNED else "done"
        self._say(
            f"{title}: {word} after {len(course.recalls)} epochs and {human_seconds(took)}, {self._metric} "
            f"{recall:.4f} in epoch {epoch}{self._standing()}"
        )

    def _train(self, trial: Trial, settings: Choice, course: _Course) -> int:
        """Trains in a process of its own, which is killed where the trial is pruned; its exit code."""
        log = self._log(trial)
        request, out = log.with_suffix(".json"), log.with_suffix("")
        write_json(
            request,
            {
                "prepared": self.prepared,
                "out": str(out),
                "model": settings.model.model_dump(mode="json"),
                "training": settings.training.model_dump(mode="json"),
                "champion": self.champion,
            },
        )

        def line(text: str) -> None:
            if not text.startswith(EPOCH):
                if " ERROR " in text:
                    course.complaint = text.partition(" failed: ")[2] or text
                return
            epoch, recall = json.loads(text.removeprefix(EPOCH))
            if recall is None:
                raise DataError(f"{self.prepared}: no validation query has a relevant item, so there is no recall")
            course.recalls.append(recall)
            trial.report(recall, epoch)
            self._say(f"trial {trial.number}: epoch {epoch}, {self._metric} {recall:.4f}")
            if epoch < settings.training.epochs and trial.should_prune():
                raise _Pruned

        try:
            return run_logged(
                [sys.executable, "-m", "pipelines.local.trial", str(request)],
                environment={**os.environ, RUNNER_PID: str(os.getpid())},
                log=log,
                line=line,
            )
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def _give_up(self, trial: Trial | FrozenTrial) -> None:
        """Ends a trial that was cut off, without a reason: it counts for nothing."""
        from optuna.trial import TrialState

        self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for key, searched in self.space.items():
            if not isinstance(searched, Between):
                found[key] = CategoricalDistribution([canonical_json(choice) for choice in searched])
            elif isinstance(searched.low, int):
                found[key] = IntDistribution(searched.low, int(searched.high), searched.log, int(searched.step or 1))
            else:
                found[key] = FloatDistribution(searched.low, searched.high, searched.log, searched.step)
        return found

    def _own_values(self) -> dict[str, Any]:
        """The configuration's own values, or those that `auto` stands for, of the settings whose search has them."""
        own = {}
        settled = choose(self.config.model, self.config.training, self.facts)
        for key, searched in self.space.items():
            section, _, name = key.partition(".")
            value = value_at(getattr(settled, section), name)
            if not isinstance(searched, Between):
                if value in searched:
                    own[key] = canonical_json(value)
            elif value is not None and searched.low <= value <= searched.high:
                steps = (value - searched.low) / (searched.step or 1)
                if searched.step is None or abs(steps - round(steps)) < 1e-9:
                    own[key] = value
        return own

    def _values(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """What a trial's parameters stand for: choices are kept as JSON."""
        return {
            key: parameters[key] if isinstance(searched, Between) else json.loads(parameters[key])
            for key, searched in self.space.items()
        }

    def _shown(self, parameters: dict[str, Any]) -> dict[str, str]:
        """A trial's parameters as a person reads them, in the order of the search."""
        shown = {}
        for key, searched in self.space.items():
            value = parameters[key]
            number = f"{value:.4g}" if isinstance(value, float) else str(value)
            shown[key] = number if isinstance(searched, Between) else labels_of(searched)[value]
        return shown

    def _standing(self) -> str:
        from optuna.trial import TrialState

        done = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        best = max(done, key=lambda trial: (trial.value, -trial.number), default=None)
        return f"; best: {best.value:.4f}, trial {best.number}" if best else ""

    def _table(self, trials: list[FrozenTrial]) -> Table:
        table = Table(title="the best trials, by validation recall", title_justify="left", title_style="bold")
        for column in ("trial", self._metric, "best epoch", "time"):
            table.add_column(column, justify="right", no_wrap=True)
        for key in self.space:
            table.add_column(key, overflow="fold")
        for trial in trials:
            table.add_row(
                str(trial.number), f"{trial.value:.4f}", str(trial.user_attrs["best_epoch"]),
                human_seconds(trial.user_attrs["seconds"]), *self._shown(trial.params).values(),
            )  # fmt: skip
        return table

    @property
    def _metric(self) -> str:
        return f"recall@{self.config.training.monitor_k}"

    def _log(self, trial: Trial) -> Path:
        return self.folder / "trials" / f"{trial.number:04d}.log"

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _origins(config: Config, space: Mapping[str, Any], prepared: str, champion: str) -> dict[str, str]:
    """Hashes of all that the trials of one search have in common; with any other they could not be compared."""
    from pipelines.dag.pipeline import code_fingerprints

    fixed = config.model_dump(mode="json")
    for key in space:
        *parents, last = key.split(".")
        section = fixed
        for part in parents:
            section = section[part]
        del section[last]
    return {
        "the section tune": _hash({key: dict(it) if isinstance(it, Between) else it for key, it in space.items()}),
        "other settings": _hash([fixed["model"], fixed["training"]]),
        "the prepared data": content_hash(prepared),
        "the champion": content_hash(champion) if champion else "",
        "the training code": code_fingerprints(config)["train_towers"],
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def _drop_half_a_line(journal: Path) -> None:
    """Cuts off what a killed process or a full disk left of a journal's last line, which Optuna would stumble over."""
    if journal.is_file():
        content = journal.read_bytes()
        os.truncate(journal, content.rfind(b"\n") + 1)
