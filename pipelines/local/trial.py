"""One trial of a search, in a process of its own: `python -m pipelines.local.trial FILE` trains as the file says."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from components.ending import end_with
from components.runtime import running
from components.step_log import LINE_MARK

EPOCH = "epoch "
"""What the line that tells of an epoch starts with, after the mark: `epoch [number, recall]`."""


def main(file: str) -> None:
    """Trains, telling of every epoch on standard output."""
    from two_tower.config import ModelSettings, TrainingSettings
    from two_tower.model import train

    request = json.loads(Path(file).read_text(encoding="utf-8"))
    with running("trial"):
        train(
            request["prepared"],
            request["out"],
            model=ModelSettings.model_validate(request["model"]),
            training=TrainingSettings.model_validate(request["training"]),
            champion=request["champion"] or None,
            epoch_end=lambda *told: print(f"{LINE_MARK}{EPOCH}{json.dumps(told)}", flush=True),
        )


if __name__ == "__main__":
    end_with(partial(main, sys.argv[1]))
