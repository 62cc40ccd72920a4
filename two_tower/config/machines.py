"""What the steps run on: the sections `beam` and `resources`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from two_tower.settings import Settings


class BeamSettings(Settings):
    """The runner of the Beam steps."""

    runner: str = Field(
        "in_process",
        description="`in_process` (threads), `multi_process`, DataflowRunner; FlinkRunner, SparkRunner and "
        "PortableRunner are passed through, untested.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads or processes of the two local runners; 0 for as many as there are cores, 8 at most.",
    )
    work: str | None = Field(
        None,
        description="The folder for the files between the stages, which every worker must reach (gs:// on Dataflow); "
        "beside the artefact if not given.",
    )
    options: dict[str, Any] = Field({}, description="Pipeline options, by their Beam names.")


class ResourcesSettings(Settings):
    """What a step asks of the machine it runs on; the local runner takes what there is."""

    cpu: str | None = Field(
        None,
        pattern=r"^([1-9]\d*m?|\d*\.\d+)$",
        description="Cores, such as '4', or thousandths of them, such as 500m.",
    )
    memory: str | None = Field(None, pattern=r"^[1-9]\d*[KMGTPE]i?$", description="Such as 16G or 16Gi.")
    accelerator: str | None = Field(None, description="Its kind, such as NVIDIA_L4.")
    accelerator_count: int = Field(1, ge=1, le=1024, description="How many of them.")
