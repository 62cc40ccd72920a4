"""`two-tower compile`: the DAG as a KFP pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import ConfigFile, Overrides
from pipelines.cli.shared import load


def compile_(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The YAML file to write.")],
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET=IMAGE", help="The container image of a target: prep, train, embed or index."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Compile the DAG to a KFP pipeline file."""
    from two_tower.errors import ConfigError
    from two_tower.steps import IMAGES

    images = dict(text.partition("=")[::2] for text in image or [])
    targets = sorted(IMAGES)
    for target, name in images.items():
        if target not in targets or not name:
            raise ConfigError(f"--image {target}={name}: expected TARGET=IMAGE with a target of {', '.join(targets)}")
    loaded = load(config, overrides)

    from pipelines.dag.pipeline import compile_pipeline

    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out}: a compiled pipeline's name ends with .yaml")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    compile_pipeline(loaded, out, images=images)
    print(out)
