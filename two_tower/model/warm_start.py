"""Training that starts from the champion's weights instead of random ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from two_tower.artifacts import ArtifactReader, Place, read_manifest
from two_tower.features import FIRST
from two_tower.model.inputs import TrainingData
from two_tower.model.network import KIND, Network, load_network
from two_tower.progress import moment_text

log = logging.getLogger("two_tower")

BEFORE_REFIT_SEEN = "before_refit_seen_until"
"""Where the manifest says which events the weights before the refit have seen."""


@dataclass(frozen=True)
class Start:
    """The champion's weights that a training starts from."""

    champion: Place
    """The `trained_towers` artefact."""
    before_refit: bool
    """Whether they are those before the champion's own refit, which saw the newest events."""
    seen_until: int | None
    """The newest event that made them, microseconds."""
    judged: bool
    """Whether the validation window is new to them, so that its recall says something."""

    def apply(self, data: TrainingData) -> TrainingData:
        """The training data with these weights in its network."""
        start_from_champion(data.network, self.champion, before_refit=self.before_refit)
        return replace(
            data,
            seen_until=max((seen for seen in (data.seen_until, self.seen_until) if seen is not None), default=None),
            validation=data.validation if self.judged else None,
        )


def find_start(champion: Place, prepared: ArtifactReader, *, refit: bool) -> Start | None:
    """Which of the champion's weights a training on the prepared data starts from; None if it has to start fresh.

    A champion with a refit has trained on its validation window, of which most is tonight's too: an epoch would be
    judged by what it remembers.  So the training that validation judges goes on from the weights before that refit, and
    the refit (`refit`) from those after it.  A champion that has seen the test window is no start at all, since what
    comes of it could not be measured.

    Raises:
        ArtifactError: `champion` is no complete artefact.
    """
    manifest = read_manifest(champion, KIND)
    windows = {name: prepared.manifest.extra.get(f"{name}_from") for name in ("validation", "test")}
    newest, test = manifest.data_seen_until, windows["test"]
    if newest is not None and test is not None and newest >= test:
        if not refit:
            log.warning(
                "train: the champion has seen events until %s and the test window begins at %s: training starts fresh",
                moment_text(newest), moment_text(test),
            )  # fmt: skip
        return None
    before_refit = not refit and BEFORE_REFIT_SEEN in manifest.extra
    seen = manifest.extra[BEFORE_REFIT_SEEN] if before_refit else newest
    if windows["validation"] is not None:
        judged = seen is not None and seen < windows["validation"]
    else:  # each user's last events, or a share of the pairs: as good as new to whatever held out its own
        judged = before_refit or not manifest.config["training"]["refit"]
    if not judged and not refit:
        log.warning(
            "train: the champion has trained on the validation window: no epoch is judged by it, the last is kept"
        )
    return Start(champion, before_refit=before_refit, seen_until=seen, judged=judged)


def start_from_champion(network: Network, champion: Place, *, before_refit: bool = False) -> None:
    """Sets the weights of an untrained network to those of the `trained_towers` artefact at `champion`.

    Rows of the embeddings of ids and of features with a vocabulary follow their values, whatever numbers they have
    now; values that the champion does not know keep their fresh rows.  Any other weight whose shape has changed stays
    fresh as a whole, which the log says.

    Raises:
        ArtifactError: `champion` is no complete artefact.
    """
    known, _ = load_network(champion, before_refit=before_refit)
    theirs = known.weights()
    our_rows, their_rows = _rows(network), _rows(known)
    fresh = []
    for name, variable in network.weights().items():
        other = theirs.get(name)
        if other is None or variable.shape[1:] != other.shape[1:]:
            fresh.append(name)
        elif name in our_rows and name in their_rows:
            variable.assign(_rows_by_id(variable.numpy(), other.numpy(), our_rows[name], their_rows[name]))
        elif variable.shape == other.shape:
            variable.assign(other)
        else:
            fresh.append(name)
    log.info(
        "train: starting from the champion's weights%s; %s",
        " before its refit" if before_refit else "",
        f"fresh: {', '.join(fresh)}" if fresh else "all fit",
    )


def _rows(network: Network) -> dict[str, list[str]]:
    """What the rows of embeddings stand for, by the weight's name; the rows of unknown and of none come before them."""
    rows = {"query/id/0": network.user_ids}
    rows |= {f"{part}/id/0": network.item_ids for part in ("items", "past_items")}
    towers = {"items": network.item_features, "past_items": network.item_features, "query": network.query_features}
    return rows | {
        f"{tower}/feature.{name}/0": feature.statistics["vocabulary"]
        for tower, features in towers.items()
        for name, feature in features.items()
        if "vocabulary" in feature.statistics
    }


def _rows_by_id(ours: np.ndarray, theirs: np.ndarray, our_ids: list[str], their_ids: list[str]) -> np.ndarray:
    """Our rows, with those of the ids that both have, and the rows of unknown and of no id, taken from theirs."""
    place = {text: FIRST + number for number, text in enumerate(their_ids)}
    rows = [place.get(text, -1) for text in our_ids]
    source = np.array([*range(FIRST), *rows])
    return np.where((source >= 0)[:, None], theirs[source], ours)
