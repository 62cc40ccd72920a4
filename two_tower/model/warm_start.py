"""Training that starts from the champion's weights instead of random ones."""

from __future__ import annotations

import logging

import numpy as np

from two_tower.features import FIRST
from two_tower.model.network import Network, load_network

log = logging.getLogger("two_tower")


def start_from_champion(network: Network, champion: str) -> None:
    """Sets the weights of an untrained network to those of the `trained_towers` artefact at `champion`.

    Rows of the embeddings of ids and of features with a vocabulary follow their values, whatever numbers they have
    now; values that the champion does not know keep their fresh rows.  Any other weight whose shape has changed stays
    fresh as a whole, which the log says.

    Raises:
        ArtifactError: `champion` is no complete artefact.
    """
    known, _ = load_network(champion)
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
    log.info("train: starting from the champion's weights; %s", f"fresh: {', '.join(fresh)}" if fresh else "all fit")


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
